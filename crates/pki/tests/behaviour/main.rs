//! `pki` from outside: one program, so that the tests link once.

mod issuing;
mod support;

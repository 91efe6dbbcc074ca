//! OpenZiti's frames and messages, typed.

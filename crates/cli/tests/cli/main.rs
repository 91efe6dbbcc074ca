//! The program as people and scripts meet it: real processes, their output and their exit codes.

mod bad_input;
mod help;
mod life;
mod refusals;
mod support;

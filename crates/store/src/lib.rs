//! Crash-safe files: a router's generations, a controller's register.

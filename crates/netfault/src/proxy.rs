//! Our own proxy.

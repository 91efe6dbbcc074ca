//! tokio and rustls: control channels, listeners, publishing credentials.

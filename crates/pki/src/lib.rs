//! Keys, leaves, chains, CSRs and enrollment tokens: parsed once, then trusted.

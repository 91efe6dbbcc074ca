//! Administrators' passwords: argon2id, in PHC form.
//!
//! Both functions take tens of milliseconds and tens of MiB: call them on a blocking thread.

use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};

use crate::dice;

/// Shortest password accepted when one is set, in characters.
pub const MIN_PASSWORD_CHARS: usize = 8;
/// Longest password looked at, in bytes.
pub const MAX_PASSWORD_BYTES: usize = 1024;

/// A password cannot be hashed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Too easily guessed.
    #[error("the password has {chars} characters; at least {MIN_PASSWORD_CHARS} are needed")]
    TooShort {
        /// How many.
        chars: usize,
    },
    /// Longer than anybody types.
    #[error("the password has {bytes} bytes; at most {MAX_PASSWORD_BYTES} are accepted")]
    TooLong {
        /// How many.
        bytes: usize,
    },
    /// No salt.
    #[error("the password cannot be salted")]
    Salt(#[from] dice::NoRandomness),
    /// argon2 refused.
    #[error("the password cannot be hashed ({reason})")]
    Hash {
        /// What it says.
        reason: String,
    },
}

impl From<argon2::password_hash::Error> for PasswordError {
    fn from(error: argon2::password_hash::Error) -> Self {
        Self::Hash { reason: error.to_string() }
    }
}

/// The hash of a new password.
///
/// # Errors
/// [`PasswordError`].
pub fn hash(password: &str) -> Result<String, PasswordError> {
    let chars = password.chars().count();
    if chars < MIN_PASSWORD_CHARS {
        return Err(PasswordError::TooShort { chars });
    }
    if password.len() > MAX_PASSWORD_BYTES {
        return Err(PasswordError::TooLong { bytes: password.len() });
    }
    let salt = SaltString::encode_b64(dice::bytes::<16>()?.as_slice())?;
    Ok(argon2().hash_password(password.as_bytes(), &salt)?.to_string())
}

/// Is this the password that was hashed? An unreadable hash is nobody's password.
pub fn matches(password: &str, hash: &str) -> bool {
    password.len() <= MAX_PASSWORD_BYTES
        && PasswordHash::new(hash).is_ok_and(|hash| argon2().verify_password(password.as_bytes(), &hash).is_ok())
}

/// Spends the time of [`matches()`] for a name that does not exist, so that the two cannot be told apart.
pub fn waste_time(password: &str) {
    matches(password, NOBODY);
}

/// Nobody's hash, of the cost of [`hash`].
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5bm9ib2R5bm8$RdescudvJCsgt3ub+b4dWRWJTmaasBwL8pTOBGZyEHs";

/// The parameters that OWASP recommends first: 19 MiB, two passes. A stored hash brings its own.
fn argon2() -> Argon2<'static> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::default())
}

#[cfg(test)]
mod tests {
    use super::{NOBODY, PasswordError, PasswordHash, hash, matches};

    #[test]
    fn only_the_password_matches_its_hash() {
        let one = hash("correct horse").unwrap();
        assert!(one.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert!(matches("correct horse", &one));
        assert!(!matches("correct horsf", &one));
        assert!(!matches("correct horse", "plain text"));
        assert_ne!(one, hash("correct horse").unwrap(), "salts differ");
    }

    #[test]
    fn a_name_that_does_not_exist_costs_as_much_as_one_that_does() {
        let nobody = PasswordHash::new(NOBODY).unwrap();
        let somebody = hash("correct horse").unwrap();
        let somebody = PasswordHash::new(&somebody).unwrap();
        assert_eq!(
            (nobody.algorithm, nobody.version, &nobody.params),
            (somebody.algorithm, somebody.version, &somebody.params)
        );
        assert!(nobody.hash.is_some() && nobody.salt.is_some());
    }

    #[test]
    fn short_and_endless_passwords_are_refused() {
        assert_eq!(hash("seven77"), Err(PasswordError::TooShort { chars: 7 }));
        assert_eq!(hash(&"x".repeat(2000)), Err(PasswordError::TooLong { bytes: 2000 }));
    }
}

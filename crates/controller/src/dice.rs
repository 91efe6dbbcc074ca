//! Ids and one-time secrets.

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

/// The system gave no randomness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system's random number generator does not answer")]
pub struct NoRandomness;

/// `N` random bytes.
///
/// # Errors
/// [`NoRandomness`].
pub fn bytes<const N: usize>() -> Result<Zeroizing<[u8; N]>, NoRandomness> {
    let mut bytes = Zeroizing::new([0; N]);
    SystemRandom::new().fill(bytes.as_mut()).map_err(|_| NoRandomness)?;
    Ok(bytes)
}

/// A UUID, version 4: what OpenZiti uses for tokens of both kinds.
///
/// # Errors
/// [`NoRandomness`].
pub fn uuid() -> Result<Zeroizing<String>, NoRandomness> {
    use std::fmt::Write as _;
    let mut bytes = bytes::<16>()?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = Zeroizing::new(String::with_capacity(36));
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}

/// An id of ten letters and digits (59 bits): as short as OpenZiti's, and good in a path, a file name and a CN.
///
/// # Errors
/// [`NoRandomness`].
pub fn short_id() -> Result<String, NoRandomness> {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut id = String::with_capacity(10);
    while id.len() < 10 {
        // Values that would favour the first letters are thrown away.
        for byte in bytes::<16>()?.iter().filter(|byte| **byte < 248) {
            if let (Some(letter), true) = (ALPHABET.get(usize::from(byte % 62)), id.len() < 10) {
                id.push(char::from(*letter));
            }
        }
    }
    Ok(id)
}

/// Is this text a UUID in its usual spelling?
pub fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use super::{is_uuid, short_id, uuid};

    #[test]
    fn tokens_are_uuids_of_version_4() {
        let (one, two) = (uuid().unwrap(), uuid().unwrap());
        assert_ne!(one, two);
        assert!(is_uuid(&one), "{}", one.as_str());
        assert_eq!((one.as_bytes()[14], one.len()), (b'4', 36));
        assert!(!is_uuid("not-a-uuid"));
        assert!(!is_uuid(&format!("{}0", one.as_str())));
    }

    #[test]
    fn ids_are_ten_letters_and_digits() {
        let id = short_id().unwrap();
        assert_eq!(id.len(), 10);
        assert!(id.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    }
}

//! Keys and certificates that are none: as long as real ones, telling which generation they are of, and unable to pass when a byte is wrong.
//!
//! Files are PEM: a reader skips what is no block, as Go's and OpenSSL's do, and fails on a block whose content does not add up, as
//! a certificate's parser does. The checksum stands in for a certificate's signature and for a key's point on the curve.

use std::fmt::Write as _;

const LEAF_BYTES: usize = 300;
const AUTHORITY_BYTES: usize = 120;
const KEY_BYTES: usize = 96;

/// A key that renewals keep.
pub const KEPT_KEY: u64 = 1_000;

/// Which of a router's two leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Shown to controllers and to routers that are dialed.
    Client,
    /// Shown to whoever dials.
    Server,
}

/// What one PEM block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// A private key.
    Key {
        /// Which one.
        id: u64,
    },
    /// A leaf.
    Leaf {
        /// Its generation.
        n: u64,
        /// The key that it certifies.
        key: u64,
        /// Client's or server's.
        role: Role,
    },
    /// An issuer or trust anchor.
    Authority,
}

/// Why a file is of no use to the system that wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// It has no such block.
    #[error("no {0}")]
    Missing(&'static str),
    /// A block's content does not add up.
    #[error("a block is damaged")]
    Damaged,
    /// The leaf certifies another key.
    #[error("certificate {n} does not match the key")]
    Mismatch {
        /// The leaf's generation.
        n: u64,
    },
}

/// The file of a private key.
pub fn key(id: u64) -> Vec<u8> {
    encode(Block::Key { id }).into_bytes()
}

/// The file of a leaf and its issuer.
pub fn chain(n: u64, key: u64, role: Role) -> Vec<u8> {
    (encode(Block::Leaf { n, key, role }) + &encode(Block::Authority)).into_bytes()
}

/// The file of a leaf alone.
pub fn leaf(n: u64, key: u64, role: Role) -> Vec<u8> {
    encode(Block::Leaf { n, key, role }).into_bytes()
}

/// The file of the issuers.
pub fn bundle() -> Vec<u8> {
    encode(Block::Authority).into_bytes()
}

/// The blocks of a file.
///
/// # Errors
/// [`Unusable::Damaged`] for a whole block that does not add up; a block without an end is skipped.
pub fn blocks(file: &[u8]) -> Result<Vec<Block>, Unusable> {
    let mut found = Vec::new();
    let mut body: Option<Vec<u8>> = None;
    for line in file.split(|byte| *byte == b'\n') {
        if line.starts_with(b"-----BEGIN ") {
            body = Some(Vec::new());
        } else if line.starts_with(b"-----END ") {
            if let Some(body) = body.take() {
                found.push(decode(&body).ok_or(Unusable::Damaged)?);
            }
        } else if let Some(body) = &mut body {
            body.extend_from_slice(line);
        }
    }
    Ok(found)
}

/// The leaf that a chain file begins with.
///
/// # Errors
/// When there is none or it is damaged.
pub fn first_leaf(file: &[u8]) -> Result<(u64, u64), Unusable> {
    let blocks = blocks(file)?;
    let leaf =
        blocks.iter().find_map(|block| if let Block::Leaf { n, key, .. } = block { Some((*n, *key)) } else { None });
    leaf.ok_or(Unusable::Missing("certificate"))
}

/// The ids of the keys in a file.
///
/// # Errors
/// When there is none or one is damaged.
pub fn keys(file: &[u8]) -> Result<Vec<u64>, Unusable> {
    let blocks = blocks(file)?;
    let ids: Vec<u64> =
        blocks.iter().filter_map(|block| if let Block::Key { id } = block { Some(*id) } else { None }).collect();
    if ids.is_empty() { Err(Unusable::Missing("private key")) } else { Ok(ids) }
}

/// The generation of a pair, as a TLS library loads it.
///
/// # Errors
/// When either is missing or damaged, or they do not belong together.
pub fn pair(chain_file: &[u8], key_file: &[u8]) -> Result<u64, Unusable> {
    let (n, certified) = first_leaf(chain_file)?;
    match keys(key_file)?.first() {
        Some(id) if *id == certified => Ok(n),
        _ => Err(Unusable::Mismatch { n }),
    }
}

fn encode(block: Block) -> String {
    let (kind, fields, length, label) = match block {
        Block::Key { id } => (0_u8, [id, 0, 0], KEY_BYTES, "PRIVATE KEY"),
        Block::Leaf { n, key, role } => (1, [n, key, role as u64], LEAF_BYTES, "CERTIFICATE"),
        Block::Authority => (2, [0, 0, 0], AUTHORITY_BYTES, "CERTIFICATE"),
    };
    let mut payload = vec![kind];
    for field in fields {
        payload.extend_from_slice(&field.to_le_bytes());
    }
    let mut filler = fnv(&payload);
    while payload.len() < length {
        payload.extend_from_slice(&filler.to_le_bytes());
        filler = fnv(&filler.to_le_bytes());
    }
    let checksum = fnv(&payload);
    payload.extend_from_slice(&checksum.to_le_bytes());
    let mut pem = format!("-----BEGIN {label}-----\n");
    for line in payload.chunks(32) {
        for byte in line {
            // Hexadecimal digits are base64 too. Writing into a String cannot fail.
            let _ = write!(pem, "{byte:02x}");
        }
        pem.push('\n');
    }
    pem + "-----END " + label + "-----\n"
}

fn decode(body: &[u8]) -> Option<Block> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let payload: Option<Vec<u8>> = body
        .chunks(2)
        .map(|pair| match pair {
            [high, low] if !high.is_ascii_uppercase() && !low.is_ascii_uppercase() => {
                Some(digit(*high)? << 4 | digit(*low)?)
            }
            _ => None,
        })
        .collect();
    let payload = payload?;
    let (payload, checksum) = payload.split_last_chunk::<8>()?;
    if fnv(payload) != u64::from_le_bytes(*checksum) {
        return None;
    }
    let field = |index: usize| {
        let bytes = payload.get(1 + index * 8..9 + index * 8)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    };
    match payload.first()? {
        0 => Some(Block::Key { id: field(0)? }),
        1 => {
            let role = if field(2)? == 0 { Role::Client } else { Role::Server };
            Some(Block::Leaf { n: field(0)?, key: field(1)?, role })
        }
        2 => Some(Block::Authority),
        _ => None,
    }
}

/// FNV-1a, 64 bits.
pub(crate) fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;

    #[test]
    fn a_pair_loads_and_a_foreign_key_does_not() {
        assert_eq!(pair(&chain(7, 7, Role::Client), &key(7)), Ok(7));
        assert_eq!(pair(&chain(7, 7, Role::Client), &key(6)), Err(Unusable::Mismatch { n: 7 }));
    }

    #[test]
    fn no_flipped_bit_of_a_leaf_passes_for_the_leaf() {
        let whole = leaf(3, 3, Role::Client);
        for at in 0..whole.len() {
            let mut bent = whole.clone();
            bent[at] ^= 1;
            let read = pair(&bent, &key(3));
            // A flipped bit in the armour hides the block or leaves it as it was.
            assert!(read.is_err() || first_leaf(&bent) == Ok((3, 3)), "{at}: {read:?}");
        }
    }

    #[test]
    fn halves_of_two_leaves_are_no_leaf() {
        let (old, new) = (chain(1, KEPT_KEY, Role::Client), chain(2, KEPT_KEY, Role::Client));
        assert!(new.len() > 512 && String::from_utf8_lossy(&new).find("-----END").unwrap() > 512);
        let mixed = [&new[..512], &old[512..]].concat();
        assert_eq!(first_leaf(&mixed), Err(Unusable::Damaged));
        assert_eq!(first_leaf(&[&new[..512], &[0; 600]].concat()), Err(Unusable::Missing("certificate")));
    }
}

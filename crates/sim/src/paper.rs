//! Made-up keys, leaves and PEM text. A chain's text spells the facts of its leaf, so that a lost manifest can be rebuilt.

use std::fmt::Write as _;

use lifecycle::issuance::{Asked, NamesDigest};
use lifecycle::{Fingerprint, GenerationNumber, KeyId, Leaf, UnixTime};
use store::generation::{GenerationFiles, Keys, PrivatePem};
use store::identity::LeafFacts;

/// A key that nobody else has.
pub(crate) fn key(number: u64) -> KeyId {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&number.to_be_bytes());
    KeyId(id)
}

/// The number of the router that the leaf is for: it stands in its key, as made-up keys are numbered.
pub(crate) fn owner(leaf: &Leaf) -> Option<u64> {
    let word: [u8; 8] = leaf.key.0.first_chunk().copied()?;
    (u64::from_be_bytes(word) >> 32).checked_sub(1)
}

/// A leaf with this serial number.
pub(crate) fn leaf(serial: u64, key: KeyId, not_before: UnixTime, not_after: UnixTime) -> Leaf {
    let mut mark = [0; 32];
    let mut spread = crate::Dice::new(serial);
    for chunk in mark.chunks_mut(8) {
        chunk.copy_from_slice(&spread.roll().to_be_bytes());
    }
    Leaf { fingerprint: Fingerprint(mark), key, not_before, not_after }
}

/// What a request with this key asks for.
pub(crate) fn asked(key: KeyId) -> Asked {
    Asked { client_key: key, server_key: key, names: NamesDigest([7; 32]) }
}

pub(crate) fn keys(key: KeyId) -> Keys {
    Keys { key: PrivatePem::new(format!("made-up key {key}\n").into_bytes()), server_key: None }
}

/// The key that [`keys`] wrote.
pub(crate) fn key_of(keys: &Keys) -> Option<KeyId> {
    let text = std::str::from_utf8(keys.key.as_bytes()).ok()?;
    Some(KeyId(from_hex(text.strip_prefix("made-up key ")?.trim_end())?))
}

pub(crate) fn files(keys: Keys, client: &Leaf, server: &Leaf) -> GenerationFiles {
    GenerationFiles { keys, client: chain(client), server: chain(server), bundle: b"made-up bundle\n".to_vec() }
}

pub(crate) fn facts(_: GenerationNumber, files: &GenerationFiles) -> Option<LeafFacts> {
    Some(LeafFacts { client: read(&files.client)?, server: read(&files.server)? })
}

fn chain(leaf: &Leaf) -> Vec<u8> {
    let mut text = String::with_capacity(200);
    let (from, to) = (leaf.not_before.as_ms(), leaf.not_after.as_ms());
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{} {} {from} {to}", leaf.fingerprint, leaf.key);
    text.into_bytes()
}

pub(crate) fn read(chain: &[u8]) -> Option<Leaf> {
    let mut words = std::str::from_utf8(chain).ok()?.split_whitespace();
    Some(Leaf {
        fingerprint: Fingerprint(from_hex(words.next()?)?),
        key: KeyId(from_hex(words.next()?)?),
        not_before: UnixTime::from_ms(words.next()?.parse().ok()?),
        not_after: UnixTime::from_ms(words.next()?.parse().ok()?),
    })
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 {
        return None;
    }
    for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

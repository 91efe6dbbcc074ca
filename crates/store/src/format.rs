//! The bytes of `manifest` and `digest`, as FORMAT.md sections 2, 3 and 5 lay them down. Pure.

use aws_lc_rs::digest::{Context, SHA256, digest};
use lifecycle::manifest::{AttemptRecord, CANDIDATES_MAX, Candidate, Manifest, Origin, ProjectionRecord};
use lifecycle::{Digest, Fingerprint, GenerationNumber, KeyId, Leaf, UnixTime};
use rustix::io::Errno;

/// The format that this release writes.
pub const FORMAT_VERSION: u32 = 1;

const MANIFEST_MAGIC: &[u8; 8] = b"EXUVIAMF";
const DIGEST_MAGIC: &[u8; 8] = b"EXUVIAGN";
const PROJECTION_MAGIC: &[u8; 8] = b"EXUVIAPJ";
const HEADER_BYTES: usize = 104;
const CANDIDATE_BYTES: usize = 224;
const CHECKSUM_BYTES: usize = 32;

/// Longest manifest of any format that is looked at.
pub(crate) const MANIFEST_MAX_BYTES: usize = 64 * 1024;
/// Longest digest file of any format that is looked at.
pub(crate) const DIGEST_MAX_BYTES: usize = 4096;

const HAS_ATTEMPT: u8 = 1;
const HAS_PROJECTION: u8 = 2;
const VERIFY_SENT: u8 = 1;
const ADMITTED: u8 = 2;
const HAS_SERVER_KEY: u32 = 1;

/// What is wrong with one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum FileDamage {
    /// It is not there although something names it.
    #[error("it is missing")]
    Missing,
    /// The disk would not give it.
    #[error("it cannot be read: {0}")]
    Unreadable(Errno),
    /// It has no content, or only zeros.
    #[error("it is empty")]
    Empty,
    /// It does not begin as its kind does.
    #[error("it is some other kind of file")]
    Foreign,
    /// It is shorter or longer than it says, or its checksum does not match.
    #[error("it is torn: length or checksum do not match")]
    Torn,
    /// Its checksum matches and its content makes no sense.
    #[error("its content is impossible: {0}")]
    Invalid(&'static str),
    /// A later release wrote it, in this format.
    #[error("a newer release wrote it (format {0})")]
    Newer(u32),
    /// It is not the content that the generation's digest, or the manifest, names.
    #[error("its content is not what was recorded")]
    Mismatch,
}

/// SHA-256.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    // The digest of SHA-256 has 32 bytes, so both slices have one length.
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

/// The bytes of this manifest.
pub fn encode_manifest(manifest: &Manifest) -> Vec<u8> {
    let length = HEADER_BYTES + manifest.candidates.len() * CANDIDATE_BYTES + CHECKSUM_BYTES;
    let mut out = Vec::with_capacity(length);
    out.extend_from_slice(MANIFEST_MAGIC);
    out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(&manifest.last_number.0.to_le_bytes());
    let flags = if manifest.attempt.is_some() { HAS_ATTEMPT } else { 0 }
        | if manifest.projection.is_some() { HAS_PROJECTION } else { 0 };
    out.extend_from_slice(&[flags, u8::try_from(manifest.candidates.len()).unwrap_or(u8::MAX), 0, 0, 0, 0, 0, 0]);
    match &manifest.attempt {
        None => out.extend_from_slice(&[0; 24]),
        Some(attempt) => {
            out.extend_from_slice(&attempt.number.0.to_le_bytes());
            out.extend_from_slice(&attempt.began.as_ms().to_le_bytes());
            out.extend_from_slice(&attempt.failures.to_le_bytes());
            out.extend_from_slice(&[0; 4]);
        }
    }
    match &manifest.projection {
        None => out.extend_from_slice(&[0; 48]),
        Some(projection) => {
            out.extend_from_slice(&projection.number.0.to_le_bytes());
            out.extend_from_slice(&projection.digest.0);
            out.extend_from_slice(&[projection.foreign_rewrites, 0, 0, 0, 0, 0, 0, 0]);
        }
    }
    for candidate in &manifest.candidates {
        encode_candidate(candidate, &mut out);
    }
    let checksum = sha256(&out);
    out.extend_from_slice(&checksum);
    out
}

fn encode_candidate(candidate: &Candidate, out: &mut Vec<u8>) {
    out.extend_from_slice(&candidate.number.0.to_le_bytes());
    out.extend_from_slice(&candidate.digest.0);
    for leaf in [&candidate.client, &candidate.server] {
        out.extend_from_slice(&leaf.fingerprint.0);
        out.extend_from_slice(&leaf.key.0);
        out.extend_from_slice(&leaf.not_before.as_ms().to_le_bytes());
        out.extend_from_slice(&leaf.not_after.as_ms().to_le_bytes());
    }
    let origin = match candidate.origin {
        Origin::Enrolled => 0,
        Origin::Renewed => 1,
        Origin::Imported => 2,
    };
    let flags = if candidate.verify_sent { VERIFY_SENT } else { 0 }
        | if candidate.first_admitted.is_some() { ADMITTED } else { 0 };
    out.extend_from_slice(&[origin, flags]);
    out.extend_from_slice(&candidate.jitter.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&candidate.first_admitted.unwrap_or_default().as_ms().to_le_bytes());
    out.extend_from_slice(&candidate.staged_at.as_ms().to_le_bytes());
}

/// Reads a manifest.
///
/// # Errors
/// What is wrong with the bytes; [`FileDamage::Newer`] when a later release wrote them.
pub fn decode_manifest(bytes: &[u8]) -> Result<Manifest, FileDamage> {
    let body = check_envelope(bytes, MANIFEST_MAGIC)?;
    let mut fields = Fields(body.get(12..).ok_or(FileDamage::Torn)?);
    if usize::try_from(fields.u32()?).ok() != Some(bytes.len()) {
        return Err(FileDamage::Torn);
    }
    let last_number = GenerationNumber(fields.u64()?);
    let [flags, count, reserved @ ..] = fields.bytes::<8>()?;
    if reserved != [0; 6] || flags & !(HAS_ATTEMPT | HAS_PROJECTION) != 0 {
        return Err(FileDamage::Invalid("unknown flags"));
    }
    let count = usize::from(count);
    if count > CANDIDATES_MAX || bytes.len() != HEADER_BYTES + count * CANDIDATE_BYTES + CHECKSUM_BYTES {
        return Err(FileDamage::Invalid("number of candidates"));
    }
    let mut attempt = fields.part(24)?;
    let attempt = if flags & HAS_ATTEMPT == 0 {
        attempt.zeros(24)?;
        None
    } else {
        let record = AttemptRecord {
            number: GenerationNumber(attempt.u64()?),
            began: UnixTime::from_ms(attempt.i64()?),
            failures: attempt.u32()?,
        };
        attempt.zeros(4)?;
        Some(record)
    };
    let mut projection = fields.part(48)?;
    let projection = if flags & HAS_PROJECTION == 0 {
        projection.zeros(48)?;
        None
    } else {
        let number = GenerationNumber(projection.u64()?);
        let digest = Digest(projection.bytes()?);
        let [foreign_rewrites] = projection.bytes()?;
        projection.zeros(7)?;
        Some(ProjectionRecord { number, digest, foreign_rewrites })
    };
    let mut candidates = Vec::with_capacity(count);
    for _ in 0..count {
        candidates.push(decode_candidate(&mut fields)?);
    }
    let manifest = Manifest { candidates, last_number, attempt, projection };
    match check_order(&manifest) {
        Ok(()) => Ok(manifest),
        Err(what) => Err(FileDamage::Invalid(what)),
    }
}

fn decode_candidate(fields: &mut Fields<'_>) -> Result<Candidate, FileDamage> {
    let number = GenerationNumber(fields.u64()?);
    let digest = Digest(fields.bytes()?);
    let client = decode_leaf(fields)?;
    let server = decode_leaf(fields)?;
    let [origin, flags] = fields.bytes()?;
    let origin = match origin {
        0 => Origin::Enrolled,
        1 => Origin::Renewed,
        2 => Origin::Imported,
        _ => return Err(FileDamage::Invalid("unknown origin")),
    };
    let jitter = u16::from_le_bytes(fields.bytes()?);
    fields.zeros(4)?;
    let first_admitted = UnixTime::from_ms(fields.i64()?);
    let staged_at = UnixTime::from_ms(fields.i64()?);
    if flags & !(VERIFY_SENT | ADMITTED) != 0 {
        return Err(FileDamage::Invalid("unknown flags"));
    }
    let is_admitted = flags & ADMITTED != 0;
    if !is_admitted && first_admitted != UnixTime::default() {
        return Err(FileDamage::Invalid("admitted and not admitted"));
    }
    Ok(Candidate {
        number,
        digest,
        client,
        server,
        origin,
        verify_sent: flags & VERIFY_SENT != 0,
        first_admitted: is_admitted.then_some(first_admitted),
        staged_at,
        jitter,
    })
}

fn decode_leaf(fields: &mut Fields<'_>) -> Result<Leaf, FileDamage> {
    Ok(Leaf {
        fingerprint: Fingerprint(fields.bytes()?),
        key: KeyId(fields.bytes()?),
        not_before: UnixTime::from_ms(fields.i64()?),
        not_after: UnixTime::from_ms(fields.i64()?),
    })
}

/// What must hold of every manifest that is written or read.
pub(crate) fn check_order(manifest: &Manifest) -> Result<(), &'static str> {
    if manifest.candidates.len() > CANDIDATES_MAX {
        return Err("too many candidates");
    }
    if !manifest.candidates.is_sorted_by(|a, b| a.number < b.number) {
        return Err("candidates out of order");
    }
    let named = manifest.candidates.last().map(|c| c.number).into_iter().chain(manifest.attempt.map(|a| a.number));
    if named.into_iter().any(|number| number > manifest.last_number) {
        return Err("a number above the last one");
    }
    Ok(())
}

/// Checks magic, version and checksum; answers everything before the checksum.
fn check_envelope<'a>(bytes: &'a [u8], magic: &[u8; 8]) -> Result<&'a [u8], FileDamage> {
    if bytes.iter().all(|byte| *byte == 0) {
        return Err(FileDamage::Empty);
    }
    let mut fields = Fields(bytes);
    if &fields.bytes::<8>()? != magic {
        return Err(FileDamage::Foreign);
    }
    let version = fields.u32()?;
    // The checksum has its place in every format, so a version that rotted is not taken for a newer one.
    let (body, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(FileDamage::Torn)?;
    if &sha256(body) != checksum {
        return Err(FileDamage::Torn);
    }
    match version {
        FORMAT_VERSION => Ok(body),
        version if version > FORMAT_VERSION => Err(FileDamage::Newer(version)),
        _ => Err(FileDamage::Invalid("format version")),
    }
}

/// Makes the checksum of these bytes right again: for whoever lays down what another release might have written.
pub fn reseal(bytes: &mut [u8]) {
    if let Some((body, checksum)) = bytes.split_last_chunk_mut::<CHECKSUM_BYTES>() {
        *checksum = sha256(body);
    }
}

/// One file of a generation as its digest file records it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FileRecord {
    size_bytes: u64,
    hash: [u8; 32],
}

impl FileRecord {
    pub(crate) fn of(content: &[u8]) -> Self {
        Self { size_bytes: content.len() as u64, hash: sha256(content) }
    }
}

/// What a digest file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DigestRecord {
    pub(crate) number: GenerationNumber,
    pub(crate) key: FileRecord,
    pub(crate) client: FileRecord,
    pub(crate) server: FileRecord,
    pub(crate) bundle: FileRecord,
    pub(crate) server_key: Option<FileRecord>,
}

/// The bytes of a digest file, and the digest of the generation, which ends them.
pub(crate) fn encode_digest(record: &DigestRecord) -> (Vec<u8>, Digest) {
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(DIGEST_MAGIC);
    out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    out.extend_from_slice(&if record.server_key.is_some() { HAS_SERVER_KEY } else { 0 }.to_le_bytes());
    out.extend_from_slice(&record.number.0.to_le_bytes());
    let server_key = record.server_key.unwrap_or_default();
    for file in [&record.key, &record.client, &record.server, &record.bundle, &server_key] {
        out.extend_from_slice(&file.size_bytes.to_le_bytes());
        out.extend_from_slice(&file.hash);
    }
    let digest = sha256(&out);
    out.extend_from_slice(&digest);
    (out, Digest(digest))
}

/// Reads a digest file.
pub(crate) fn decode_digest(bytes: &[u8]) -> Result<(DigestRecord, Digest), FileDamage> {
    let body = check_envelope(bytes, DIGEST_MAGIC)?;
    let mut fields = Fields(body.get(12..).ok_or(FileDamage::Torn)?);
    let flags = fields.u32()?;
    if flags & !HAS_SERVER_KEY != 0 {
        return Err(FileDamage::Invalid("unknown flags"));
    }
    let number = GenerationNumber(fields.u64()?);
    let mut file =
        || -> Result<FileRecord, FileDamage> { Ok(FileRecord { size_bytes: fields.u64()?, hash: fields.bytes()? }) };
    let (key, client, server, bundle, server_key) = (file()?, file()?, file()?, file()?, file()?);
    if !fields.0.is_empty() {
        return Err(FileDamage::Torn);
    }
    let server_key = match flags & HAS_SERVER_KEY {
        0 if server_key == FileRecord::default() => None,
        0 => return Err(FileDamage::Invalid("a server key that does not belong to it")),
        _ => Some(server_key),
    };
    Ok((DigestRecord { number, key, client, server, bundle, server_key }, Digest(sha256(body))))
}

/// Hash over the contents of the configured paths: `(slot, content)` in ascending slots (FORMAT.md section 5).
pub(crate) fn projection_digest<'a>(contents: impl IntoIterator<Item = (u8, &'a [u8])>) -> Digest {
    let mut context = Context::new(&SHA256);
    context.update(PROJECTION_MAGIC);
    context.update(&FORMAT_VERSION.to_le_bytes());
    for (slot, content) in contents {
        context.update(&[slot]);
        context.update(&(content.len() as u64).to_le_bytes());
        context.update(&sha256(content));
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    Digest(out)
}

/// Takes fixed fields off the front of a slice.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], FileDamage> {
        let (field, rest) = self.0.split_first_chunk::<N>().ok_or(FileDamage::Torn)?;
        self.0 = rest;
        Ok(*field)
    }

    fn u32(&mut self) -> Result<u32, FileDamage> {
        Ok(u32::from_le_bytes(self.bytes()?))
    }

    fn u64(&mut self) -> Result<u64, FileDamage> {
        Ok(u64::from_le_bytes(self.bytes()?))
    }

    fn i64(&mut self) -> Result<i64, FileDamage> {
        Ok(i64::from_le_bytes(self.bytes()?))
    }

    fn part(&mut self, length: usize) -> Result<Fields<'a>, FileDamage> {
        let (part, rest) = self.0.split_at_checked(length).ok_or(FileDamage::Torn)?;
        self.0 = rest;
        Ok(Fields(part))
    }

    fn zeros(&mut self, length: usize) -> Result<(), FileDamage> {
        if self.part(length)?.0.iter().all(|byte| *byte == 0) {
            Ok(())
        } else {
            Err(FileDamage::Invalid("reserved bytes are not zero"))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn leaf() -> impl Strategy<Value = Leaf> {
        (any::<[u8; 32]>(), any::<[u8; 32]>(), any::<i64>(), any::<i64>()).prop_map(|(f, k, b, a)| Leaf {
            fingerprint: Fingerprint(f),
            key: KeyId(k),
            not_before: UnixTime::from_ms(b),
            not_after: UnixTime::from_ms(a),
        })
    }

    fn candidate() -> impl Strategy<Value = Candidate> {
        let origin = prop_oneof![Just(Origin::Enrolled), Just(Origin::Renewed), Just(Origin::Imported)];
        (any::<[u8; 32]>(), leaf(), leaf(), origin, any::<(bool, Option<i64>, i64, u16)>()).prop_map(
            |(digest, client, server, origin, (verify_sent, admitted, staged, jitter))| Candidate {
                number: GenerationNumber(0),
                digest: Digest(digest),
                client,
                server,
                origin,
                verify_sent,
                first_admitted: admitted.map(UnixTime::from_ms),
                staged_at: UnixTime::from_ms(staged),
                jitter,
            },
        )
    }

    fn manifest() -> impl Strategy<Value = Manifest> {
        let attempt = proptest::option::of(any::<(u64, i64, u32)>());
        let projection = proptest::option::of(any::<(u64, [u8; 32], u8)>());
        (proptest::collection::vec(candidate(), 0..=CANDIDATES_MAX), attempt, projection).prop_map(
            |(mut candidates, attempt, projection)| {
                for (index, candidate) in candidates.iter_mut().enumerate() {
                    candidate.number = GenerationNumber(index as u64 * 3 + 1);
                }
                Manifest {
                    candidates,
                    last_number: GenerationNumber(u64::MAX),
                    attempt: attempt.map(|(number, began, failures)| AttemptRecord {
                        number: GenerationNumber(number),
                        began: UnixTime::from_ms(began),
                        failures,
                    }),
                    projection: projection.map(|(number, digest, foreign_rewrites)| ProjectionRecord {
                        number: GenerationNumber(number),
                        digest: Digest(digest),
                        foreign_rewrites,
                    }),
                }
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_manifest_comes_back_as_it_was_written(manifest in manifest()) {
            let bytes = encode_manifest(&manifest);
            prop_assert!(bytes.len() <= 1928);
            prop_assert_eq!(decode_manifest(&bytes), Ok(manifest));
        }

        #[test]
        fn no_flipped_byte_of_a_manifest_goes_unnoticed(manifest in manifest(), at in any::<usize>(), flip in 1..=255_u8) {
            let mut bytes = encode_manifest(&manifest);
            let at = at % bytes.len();
            bytes[at] ^= flip;
            prop_assert!(decode_manifest(&bytes).is_err());
        }

        #[test]
        fn no_bytes_make_the_readers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut dressed = MANIFEST_MAGIC.to_vec();
            dressed.extend_from_slice(&bytes);
            prop_assert!(decode_manifest(&dressed).is_err());
            prop_assert!(decode_digest(&bytes).is_err());
        }
    }

    #[test]
    fn every_truncation_of_a_manifest_is_damage() {
        let bytes = encode_manifest(&Manifest::default());
        for length in 0..bytes.len() {
            assert!(decode_manifest(&bytes[..length]).is_err(), "{length}");
        }
        let longer: Vec<u8> = bytes.iter().copied().chain([0]).collect();
        assert_eq!(decode_manifest(&longer), Err(FileDamage::Torn));
    }

    #[test]
    fn a_newer_format_is_not_damage() {
        let mut bytes = encode_manifest(&Manifest::default());
        bytes[8] = 2;
        assert_eq!(decode_manifest(&bytes), Err(FileDamage::Torn), "its version rotted");
        reseal(&mut bytes);
        assert_eq!(decode_manifest(&bytes), Err(FileDamage::Newer(2)));
    }

    #[test]
    fn a_zero_filled_file_is_empty() {
        assert_eq!(decode_manifest(&[0; 136]), Err(FileDamage::Empty));
        assert_eq!(decode_digest(&[]), Err(FileDamage::Empty));
    }
}

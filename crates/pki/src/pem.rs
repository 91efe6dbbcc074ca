//! PEM text: blocks between labels, nothing guessed.
//!
//! Text and blank lines between blocks are skipped, as OpenZiti does. A block that begins and does not end, ends and
//! never began, or holds something other than base64 is an error: upstream drops such a block silently, and a bundle
//! that lost an anchor is found out only when the peers it vouched for are refused.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// Most bytes accepted as a chain, a bundle or a single certificate in PEM.
pub const MAX_CERTIFICATES_PEM_BYTES: usize = 1024 * 1024;
/// Most bytes accepted as a private key in PEM. An RSA-8192 key takes about 6.5 KB.
pub const MAX_KEY_PEM_BYTES: usize = 64 * 1024;
/// Most bytes accepted as a certificate request in PEM.
pub const MAX_CSR_PEM_BYTES: usize = 64 * 1024;

const LINE_CHARS: usize = 64;

/// The text is not PEM, or is damaged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// Longer than any such text has a reason to be.
    #[error("{found_bytes} bytes of PEM, at most {limit_bytes} are accepted")]
    TooLong {
        /// How many bytes there are.
        found_bytes: usize,
        /// How many are accepted.
        limit_bytes: usize,
    },
    /// A block without its end: the file was cut short.
    #[error("line {line}: the block that begins here has no matching END line; the text was cut short or edited")]
    Unfinished {
        /// Where the block begins, from 1.
        line: usize,
    },
    /// An END line outside a block, or under another label than its BEGIN.
    #[error("line {line}: an END line without its BEGIN line; the beginning of the block is missing")]
    StrayEnd {
        /// Which line, from 1.
        line: usize,
    },
    /// A line that looks like a BEGIN or END line and is not one.
    #[error("line {line}: a damaged BEGIN or END line")]
    BadBoundary {
        /// Which line, from 1.
        line: usize,
    },
    /// What is between the labels is not base64.
    #[error("the block that begins at line {line} is not base64")]
    NotBase64 {
        /// Where the block begins, from 1.
        line: usize,
    },
    /// The block carries RFC 1421 headers, which in practice means a password.
    #[error("the block that begins at line {line} is encrypted; remove its password first (`openssl pkey`)")]
    Encrypted {
        /// Where the block begins, from 1.
        line: usize,
    },
}

/// One block: its label and what it holds. May hold a secret, so it wipes itself.
pub(crate) struct Block {
    pub(crate) label: String,
    pub(crate) der: Zeroizing<Vec<u8>>,
    /// Where it begins, from 1.
    pub(crate) line: usize,
}

enum Boundary<'a> {
    Begin(&'a str),
    End(&'a str),
    Damaged,
    None,
}

fn boundary(line: &str) -> Boundary<'_> {
    let label = |prefix| line.strip_prefix(prefix).and_then(|rest: &str| rest.strip_suffix("-----"));
    if let Some(label) = label("-----BEGIN ") {
        Boundary::Begin(label)
    } else if let Some(label) = label("-----END ") {
        Boundary::End(label)
    } else if line.contains("-----BEGIN ") || line.contains("-----END ") {
        Boundary::Damaged
    } else {
        Boundary::None
    }
}

/// Every block of `text`, in order.
pub(crate) fn blocks(text: &[u8], limit_bytes: usize) -> Result<Vec<Block>, PemError> {
    if text.len() > limit_bytes {
        return Err(PemError::TooLong { found_bytes: text.len(), limit_bytes });
    }
    let mut blocks = Vec::new();
    let mut open: Option<(String, usize, Zeroizing<Vec<u8>>)> = None;
    // Where the next line begins.
    let mut next = 0;
    // Only `\n` ends a line; a `\r` before it falls to `trim`.
    for (index, raw) in text.split(|byte| *byte == b'\n').enumerate() {
        let number = index + 1;
        next += raw.len() + 1;
        // Bytes outside blocks may be anything; inside one, what is not text is not base64 either.
        let line = match std::str::from_utf8(raw) {
            Ok(line) => line.trim(),
            Err(_) => match &open {
                Some((_, begun, _)) => return Err(PemError::NotBase64 { line: *begun }),
                None => continue,
            },
        };
        match (boundary(line), open.take()) {
            (Boundary::Damaged, _) => return Err(PemError::BadBoundary { line: number }),
            // Large enough for all that stands before the END line, so that a secret never moves and leaves a copy behind; and no larger, since
            // a text may hold ten thousands of blocks, and each is wiped.
            (Boundary::Begin(label), None) => {
                let body = Vec::with_capacity(before_end(text.get(next..).unwrap_or_default()));
                open = Some((label.to_owned(), number, Zeroizing::new(body)));
            }
            (Boundary::Begin(_), Some((_, begun, _))) => return Err(PemError::Unfinished { line: begun }),
            (Boundary::End(label), Some((opened, begun, body))) if label == opened => {
                let mut der = Zeroizing::new(vec![0; body.len() / 4 * 3 + 3]);
                let length = STANDARD
                    .decode_slice(body.as_slice(), der.as_mut_slice())
                    .map_err(|_| PemError::NotBase64 { line: begun })?;
                der.truncate(length);
                blocks.push(Block { label: opened, der, line: begun });
            }
            (Boundary::End(_), _) => return Err(PemError::StrayEnd { line: number }),
            (Boundary::None, Some((_, begun, _))) if line.contains(':') => {
                return Err(PemError::Encrypted { line: begun });
            }
            (Boundary::None, Some((label, begun, mut body))) => {
                body.extend(line.bytes().filter(|byte| !byte.is_ascii_whitespace()));
                open = Some((label, begun, body));
            }
            (Boundary::None, None) => {}
        }
    }
    match open {
        Some((_, line, _)) => Err(PemError::Unfinished { line }),
        None => Ok(blocks),
    }
}

/// How many bytes stand before the next END line; all of them if there is none.
fn before_end(text: &[u8]) -> usize {
    let end = b"-----END ";
    text.windows(end.len()).position(|window| window == end).unwrap_or(text.len())
}

/// `der` as one block, in lines of 64, ending with a newline. Wipes itself, and never grows.
pub(crate) fn encode(label: &str, der: &[u8]) -> Zeroizing<String> {
    let base64 = Zeroizing::new(STANDARD.encode(der));
    let mut text =
        Zeroizing::new(String::with_capacity(base64.len() + base64.len() / LINE_CHARS + 2 * label.len() + 40));
    text.push_str("-----BEGIN ");
    text.push_str(label);
    text.push_str("-----\n");
    push_lines(&mut text, &base64);
    text.push_str("-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    text
}

/// Appends `base64` in lines of 64 characters.
pub(crate) fn push_lines(text: &mut String, base64: &str) {
    let mut rest = base64;
    while !rest.is_empty() {
        // Base64 is ASCII, so every index is a boundary; `None` means that the rest is shorter than a line.
        let (line, after) = rest.split_at_checked(LINE_CHARS).unwrap_or((rest, ""));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &str) -> Result<Vec<String>, PemError> {
        blocks(text.as_bytes(), 4096).map(|blocks| blocks.into_iter().map(|block| block.label).collect())
    }

    #[test]
    fn a_block_survives_the_round_trip_whatever_its_length() {
        for length in 0..200 {
            let der: Vec<u8> = (0..length).collect();
            let text = encode("THING", &der);
            assert!(text.lines().all(|line| line.len() <= 64));
            let back = blocks(text.as_bytes(), 4096).unwrap();
            assert_eq!(back.len(), 1);
            assert_eq!(back[0].der.as_slice(), der.as_slice());
        }
    }

    #[test]
    fn text_and_blank_lines_around_blocks_are_skipped() {
        let one = encode("A", b"one");
        let two = encode("B", b"two").replace('\n', "\r\n");
        let text = format!("\n\n subject=CN = x\n{}\n\n# note\n  {}\n\n", *one, two);
        assert_eq!(labels(&text).unwrap(), ["A", "B"]);
    }

    #[test]
    fn damage_is_reported_with_its_line() {
        let whole = encode("A", &[7; 60]).to_string();
        let lines: Vec<&str> = whole.lines().collect();
        let cut = format!("{}\n{}\n", lines[0], lines[1]);
        assert_eq!(labels(&cut), Err(PemError::Unfinished { line: 1 }));
        assert_eq!(labels(&format!("{cut}{whole}")), Err(PemError::Unfinished { line: 1 }));
        assert_eq!(labels(&lines[1..].join("\n")), Err(PemError::StrayEnd { line: lines.len() - 1 }));
        assert_eq!(labels(&whole.replace("END A", "END B")), Err(PemError::StrayEnd { line: lines.len() }));
        assert_eq!(labels(&whole.replace("BEGIN A-----", "BEGIN A---")), Err(PemError::BadBoundary { line: 1 }));
        assert_eq!(labels(&whole.replace("Bw", "B*")), Err(PemError::NotBase64 { line: 1 }));
        assert_eq!(
            labels(&whole.replace(lines[1], &format!("Proc-Type: 4,ENCRYPTED\n\n{}", lines[1]))),
            Err(PemError::Encrypted { line: 1 })
        );
        assert_eq!(blocks(&[b'x'; 10], 9).err(), Some(PemError::TooLong { found_bytes: 10, limit_bytes: 9 }));
    }

    /// Found by feeding texts as long as they may be: each of 33,000 blocks took, and wiped, a megabyte.
    #[test]
    fn a_text_of_many_blocks_is_read_in_time_and_memory_that_fit_its_length() {
        let text = "-----BEGIN A-----\nAAAA\n-----END A-----\n".repeat(20_000);
        let read = blocks(text.as_bytes(), MAX_CERTIFICATES_PEM_BYTES).unwrap();
        assert_eq!(read.len(), 20_000);
        assert!(read.iter().all(|block| block.der.capacity() <= 16));
        assert_eq!(before_end(b"AAAA\n-----END A-----\n-----END A-----\n"), 5);
        assert_eq!(before_end(b"AAAA\n"), 5);
    }
}

//! First inputs: what our own encoders write, with made-up names and keys of this process.

mod frames;
mod papers;
mod texts;

use bytes::Bytes;
use lifecycle::manifest::{AttemptRecord, Candidate, Manifest, Origin, ProjectionRecord};
use lifecycle::{Digest, Fingerprint, GenerationNumber, KeyId, Leaf, UnixTime};
use wire::frame::{encode_list, encode_text_map};
use wire::{Frame, Headers};

use crate::check::Target;

use frames::frames;
use texts::{BODIES, CONTROLLER_YML, ENDPOINTS_YML, FILTERS, ROUTER_YML};

/// Some inputs for a target. Those with keys in them differ from process to process.
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    match target {
        "frame" => frames().iter().map(|frame| frame.to_bytes().to_vec()).chain([stream()]).collect(),
        "hello" | "headers" => frames().iter().map(|frame| block(&frame.headers)).chain(values()).collect(),
        "messages" => frames().iter().map(|frame| frame.body.to_vec()).filter(|body| !body.is_empty()).collect(),
        "manifest" => manifests(),
        "router_yml" => {
            texts(&[ROUTER_YML, "v: 3\n", "v: 3\nidentity: {cert: a, key: b, ca: c}\nctrl: {endpoint: \"tls:a:1\"}\n"])
        }
        "controller_yml" => texts(&[CONTROLLER_YML, "v: 3\n"]),
        "endpoints_yml" => texts(&[ENDPOINTS_YML, "endpoints:\n  - tls:a.example.org:6262\n", "endpoints:\n"]),
        "rest_body" => texts(BODIES),
        "rest_filter" => texts(FILTERS),
        _ => papers::of(target),
    }
}

/// Inputs as long as the door takes, made of one piece repeated: what is quadratic takes for ever here. No longer than `longest` bytes.
pub fn giants(target: &Target, longest: usize) -> Vec<Vec<u8>> {
    let longest = longest.min(target.caps.input_bytes);
    let pieces: &[&[u8]] = match target.name {
        "csr" | "pem_bundle" | "private_key" => {
            &[b"-----BEGIN A-----\n-----END A-----\n", b"\n", b"-----BEGIN A-----\nAAAA\n-----END A-----\n", b"A"]
        }
        "router_yml" | "controller_yml" | "endpoints_yml" => &[
            b"- a\n",
            b"[",
            b"{a: ",
            b"? a\n",
            b"- tls:a:1\n",
            b"&a [*a, ",
            b"# x\n",
            b"a",
            b"${A}",
            b"- {address: a}\n",
        ],
        "rest_body" => &[b"[", b"{\"a\":", b"[1,", b"\\u0000", b"9", b" "],
        "rest_filter" => &[b"(", b"not ", b"a=1 or ", b"\"", b"a in [1,", b"a,"],
        "jwt" => &[b"[", b"e30.", b"A"],
        "certificate" => &[b"\x30\x84\x00\x00\xff\x00", b"\x30\x80", b"\x30\x03\x02\x01\x01", b"\x31\x00"],
        "headers" | "hello" | "frame" => &[
            b"\x04\x00\x00\x00\x00\x00\x00\x00",
            b"\x00",
            b"\xff",
            b"\x03\x06\x09\x0c\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        ],
        "messages" => &[b"\x0a\x00", b"\x12\x00", b"\x1a\x00", b"\x22\x00", b"\x0a\x02\x0a\x00", b"\x0b", b"\x08\x01"],
        _ => &[b"\x00", b"\xff"],
    };
    let mut giants: Vec<Vec<u8>> = pieces.iter().map(|piece| piece.repeat(longest / piece.len())).collect();
    if target.name == "endpoints_yml" {
        let lines = (0..longest / 20).map(|number| format!("- tls:a{number}:1\n"));
        giants.push(format!("endpoints:\n{}", lines.collect::<String>()).into_bytes());
        let lines = (0..longest / 60)
            .map(|number| format!("- {{id: c{number}, endpoints: [{{address: \"tls:a{number}:1\"}}]}}\n"));
        giants.push(format!("controllers:\n{}", lines.collect::<String>()).into_bytes());
    }
    if target.name.ends_with("_yml") {
        giants.push((0..longest / 12).flat_map(|key| format!("k{key}: 1\n").into_bytes()).collect());
    }
    giants
}

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn block(headers: &Headers) -> Vec<u8> {
    let frame = Frame { headers: headers.clone(), ..Frame::default() };
    frame.to_bytes().get(wire::frame::PREAMBLE_BYTES..).map(<[u8]>::to_vec).unwrap_or_default()
}

fn values() -> Vec<Vec<u8>> {
    let map = [("tls:a.example.org:1".to_owned(), "transport".to_owned())].into_iter().collect();
    [encode_list(&["a", "bc", ""]).ok(), encode_text_map(&map).ok()].into_iter().flatten().map(Bytes::into).collect()
}

fn stream() -> Vec<u8> {
    frames().iter().take(3).flat_map(|frame| frame.to_bytes().to_vec()).collect()
}

fn manifests() -> Vec<Vec<u8>> {
    let leaf = |seed: u8| Leaf {
        fingerprint: Fingerprint([seed; 32]),
        key: KeyId([seed; 32]),
        not_before: UnixTime::from_s(1_700_000_000),
        not_after: UnixTime::from_s(1_800_000_000),
    };
    let candidate = |number: u8, origin, first_admitted: Option<UnixTime>| Candidate {
        number: GenerationNumber(number.into()),
        digest: Digest([number; 32]),
        client: leaf(number),
        server: leaf(number ^ 0x80),
        origin,
        verify_sent: first_admitted.is_some(),
        first_admitted,
        staged_at: UnixTime::from_s(1_700_000_100),
        jitter: 4711,
    };
    let admitted = Some(UnixTime::from_s(1_700_000_200));
    let one = Manifest {
        candidates: vec![candidate(1, Origin::Enrolled, admitted)],
        last_number: GenerationNumber(1),
        attempt: None,
        projection: None,
    };
    let attempt = AttemptRecord { number: GenerationNumber(4), began: UnixTime::from_s(1_750_000_000), failures: 2 };
    let projection = ProjectionRecord { number: GenerationNumber(2), digest: Digest([9; 32]), foreign_rewrites: 1 };
    let many = Manifest {
        candidates: vec![
            candidate(1, Origin::Enrolled, admitted),
            candidate(2, Origin::Renewed, admitted),
            candidate(3, Origin::Imported, None),
        ],
        last_number: GenerationNumber(4),
        attempt: Some(attempt),
        projection: Some(projection),
    };
    [one, many].iter().map(store::format::encode_manifest).collect()
}

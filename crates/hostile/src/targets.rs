//! The doors.

use std::time::Duration;

use crate::check::{Caps, Target};

mod files;
mod pem;
mod requests;
mod rest;
mod tokens;
mod wire;

const KIB: usize = 1024;

/// Caps of a door whose longest input is `input_bytes`.
const fn caps(input_bytes: usize, fixed_bytes: usize, bytes_per_byte: usize) -> Caps {
    Caps { input_bytes, fixed_bytes, bytes_per_byte, time: Duration::from_millis(250) }
}

/// A text is read once, and once more for each of the forty problems that are shown.
const YAML: Duration = Duration::from_secs(6);

/// Every door, in the order of the report.
pub const TARGETS: &[Target] = &[
    Target {
        name: "frame",
        door: "a stream of frames before the hello, from anybody with any certificate",
        run: wire::stream,
        // Header block and body of a hello (`wire::Limits::HELLO`); the decoder reserves at most 128 KiB ahead of what arrived.
        caps: caps(16_384 + 4_192 + 20, 512 * KIB, 64),
        words: &[&::wire::frame::MAGIC, &::wire::frame::NEGOTIATION_MAGIC],
    },
    Target {
        name: "hello",
        door: "the header block of a hello or of its answer",
        run: wire::hello,
        caps: caps(16_384, 512 * KIB, 64),
        words: &[b"v1.6.0|", b"|linux|amd64", b"\x08\x00\x00\x00\x01\x00\x00\x00\x01"],
    },
    Target {
        name: "headers",
        door: "the header block of a frame, and the lists and maps in its values",
        run: wire::headers,
        // `wire::Limits::CHANNEL`.
        caps: caps(1 << 20, 512 * KIB, 64),
        words: &[b"\x04\x00\x00\x00", b"\xff\xff\xff\x7f"],
    },
    Target {
        name: "messages",
        door: "the body of every message type, from an admitted peer",
        run: wire::messages,
        // Every content type is tried, one after the other. A repeated empty message costs two bytes on the wire and a struct in memory.
        // Some sixty readings of one input, each written, read again and shown: a fifth of a second for each, of which it takes a fifth.
        caps: Caps { time: Duration::from_secs(12), ..caps(1 << 20, 512 * KIB, 256) },
        words: &[b"-----BEGIN CERTIFICATE-----\n", b"tls:ctrl.example.org:6262", b"\x0a\x00", b"\xff\xff\xff\xff\x0f"],
    },
    Target {
        name: "jwt",
        door: "an enrollment token, from whoever hands an operator a file; also claims that are rightly signed",
        run: tokens::token,
        caps: caps(::pki::MAX_TOKEN_BYTES, 256 * KIB, 64),
        words: &[b".", b"\"sub\":", b"\"exp\":", b"\"ctrls\":[", b"\"em\":\"erott\"", b"null", b"\\u0000", b"1e400"],
    },
    Target {
        name: "csr",
        door: "a certificate request, from anybody with a token; also requests that are rightly signed",
        run: requests::csr,
        caps: caps(::pki::MAX_CSR_PEM_BYTES, 512 * KIB, 64),
        words: &[
            b"-----BEGIN CERTIFICATE REQUEST-----\n",
            b"-----END CERTIFICATE REQUEST-----\n",
            b"\x30\x84",
            b"\x55\x1d\x11",
        ],
    },
    Target {
        name: "certificate",
        door: "a certificate in a TLS handshake, from anybody",
        run: pem::certificate,
        caps: caps(1 << 16, 512 * KIB, 64),
        words: &[b"\x30\x84", b"\x30\x80", b"\x55\x1d\x11", b"\x55\x1d\x13", b"\x17\x0d", b"\x18\x0f99991231235959Z"],
    },
    Target {
        name: "pem_bundle",
        door: "chains, trust bundles and the CA answer, from a controller or an operator",
        run: pem::bundle,
        caps: caps(::pki::MAX_CERTIFICATES_PEM_BYTES, 512 * KIB, 64),
        words: &[b"-----BEGIN CERTIFICATE-----\n", b"-----END CERTIFICATE-----\n", b"-----BEGIN ", b"-----\n", b"MII"],
    },
    Target {
        name: "private_key",
        door: "a key file, from a disk; also a good key with some bytes changed",
        run: pem::private_key,
        caps: caps(::pki::MAX_KEY_PEM_BYTES, 512 * KIB, 64),
        words: &[
            b"-----BEGIN EC PARAMETERS-----\n",
            b"-----END EC PARAMETERS-----\n",
            b"Proc-Type: 4,ENCRYPTED\n",
            b"-----BEGIN ",
        ],
    },
    Target {
        name: "manifest",
        door: "the manifest of the identity store, from a disk; also with a checksum that is right",
        run: files::manifest,
        caps: caps(64 * KIB, 256 * KIB, 16),
        words: &[b"EXUVIAMF\x01\x00\x00\x00"],
    },
    Target {
        name: "router_yml",
        door: "router.yml, from an operator",
        run: files::router_yml,
        // A YAML node of one byte becomes a node in memory, and every unknown key a problem in the report.
        caps: Caps { time: YAML, ..caps(::config::MAX_TEXT_BYTES, 1024 * KIB, 2048) },
        words: &[
            b"identity:\n",
            b"ctrl:\n",
            b"  endpoint: tls:a:1\n",
            b"${HOME}",
            b"&a [",
            b"*a",
            b"{",
            b"? ",
            b"<<: ",
            b"v: 3\n",
            b"!!map ",
        ],
    },
    Target {
        name: "controller_yml",
        door: "controller.yml, from an operator",
        run: files::controller_yml,
        caps: Caps { time: YAML, ..caps(::config::MAX_TEXT_BYTES, 1024 * KIB, 2048) },
        words: &[
            b"identity:\n",
            b"ctrl:\n",
            b"edge:\n",
            b"web:\n",
            b"exuvia:\n",
            b"limits:\n",
            b"v: 3\n",
            b"- ",
            b"{",
            b"[",
        ],
    },
    Target {
        name: "endpoints_yml",
        door: "the file of control addresses, from a disk that another program writes to",
        run: files::endpoints_yml,
        caps: Caps { time: YAML, ..caps(1 << 20, 1024 * KIB, 2048) },
        words: &[b"endpoints:\n", b"controllers:\n", b"  - tls:a:1\n", b"groups: [", b"id: ", b"address: "],
    },
    Target {
        name: "rest_body",
        door: "the JSON of a REST request, from anybody (enrollment) or an operator",
        run: rest::body,
        caps: caps(::api::MAX_BODY_BYTES, 256 * KIB, 256),
        words: &[
            b"\"name\":",
            b"\"tags\":{",
            b"\"certCsr\":\"",
            b"[[[[",
            b"1e308",
            b"-0.0",
            b"\\ud800",
            b"null",
            b"18446744073709551615",
        ],
    },
    Target {
        name: "rest_filter",
        door: "the filter and the sort order in a query, from an operator",
        run: rest::filter,
        // A token of one byte becomes a condition with a vector of values.
        caps: caps(::api::filter::MAX_FILTER_BYTES, 256 * KIB, 512),
        words: &[
            b" and ",
            b" or ",
            b"not ",
            b"(",
            b")",
            b" in [",
            b" contains ",
            b"anyOf(",
            b" sort by ",
            b" limit none",
            b" skip ",
            b"\"",
            b"true",
        ],
    },
];

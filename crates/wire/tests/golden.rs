//! The worked examples of OpenZiti's wire, byte for byte.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests are claims")]

use bytes::{Bytes, BytesMut};
use wire::capability::{self, Capabilities};
use wire::hello::{AcceptedHello, CTRL_DEFAULT, GroupHello, Hello, HelloAnswer, RefusalClass};
use wire::{Decoder, Frame, FrameError, Limits, content_type, header};

const HELLO: &str = "
    03 06 09 0c   00 00 00 00   ff ff ff ff   4d 00 00 00   04 00 00 00
    04 00 00 00   16 00 00 00   76 32 2e 31 2e 30 7c 72 7c 64 7c 6c 69 6e 75 78 7c 61 6d 64 36 34
    07 00 00 00   0c 00 00 00   63 74 72 6c 2e 64 65 66 61 75 6c 74
    09 00 00 00   01 00 00 00   01
    0b 00 00 00   01 00 00 00   01
    ea 03 00 00   01 00 00 00   02
    72 2d 30 31";

const RESULT: &str = "
    03 06 09 0c   02 00 00 00   ff ff ff ff   8a 00 00 00   00 00 00 00
    00 00 00 00   04 00 00 00   58 6b 37 71
    01 00 00 00   04 00 00 00   ff ff ff ff
    02 00 00 00   01 00 00 00   01
    04 00 00 00   16 00 00 00   76 32 2e 31 2e 30 7c 63 7c 64 7c 6c 69 6e 75 78 7c 61 6d 64 36 34
    07 00 00 00   0c 00 00 00   63 74 72 6c 2e 64 65 66 61 75 6c 74
    08 00 00 00   05 00 00 00   63 74 72 6c 31
    09 00 00 00   01 00 00 00   01
    0a 00 00 00   10 00 00 00   a0 a1 a2 a3 a4 a5 a6 a7 a8 a9 aa ab ac ad ae af
    ea 03 00 00   01 00 00 00   7e";

/// The order of headers means nothing; ours is ascending, upstream's example has key 2 before key 1.
const REFUSAL: &str = "
    03 06 09 0c   02 00 00 00   ff ff ff ff   21 00 00 00   04 00 00 00
    02 00 00 00   01 00 00 00   00
    01 00 00 00   04 00 00 00   ff ff ff ff
    0d 00 00 00   04 00 00 00   01 00 00 00
    62 75 73 79";
const REFUSAL_ASCENDING: &str = "
    03 06 09 0c   02 00 00 00   ff ff ff ff   21 00 00 00   04 00 00 00
    01 00 00 00   04 00 00 00   ff ff ff ff
    02 00 00 00   01 00 00 00   00
    0d 00 00 00   04 00 00 00   01 00 00 00
    62 75 73 79";

const HEARTBEAT: &str = "03 06 09 0c  05 00 00 00  07 00 00 00  10 00 00 00  00 00 00 00  05 00 00 00  08 00 00 00  00 00 2a 36 fe 9c 97 17";
const HEARTBEAT_ANSWER: &str = "03 06 09 0c  05 00 00 00  09 00 00 00  10 00 00 00  00 00 00 00  06 00 00 00  08 00 00 00  00 00 2a 36 fe 9c 97 17";

fn hex(text: &str) -> Vec<u8> {
    text.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

/// Decodes `text` under the hello's caps, and checks that every cut of it asks for more bytes and nothing else.
fn frame(text: &str) -> Frame {
    let bytes = hex(text);
    for cut in 0..bytes.len() {
        let mut decoder = Decoder::new(Limits::HELLO);
        let mut buf = BytesMut::from(&bytes[..cut]);
        assert_eq!(decoder.decode(&mut buf), Ok(None), "cut at {cut}");
        assert_eq!(buf, bytes[..cut], "an unfinished frame stays in the buffer");
        buf.extend_from_slice(&bytes[cut..]);
        assert!(decoder.decode(&mut buf).unwrap().is_some(), "cut at {cut}, then the rest");
        assert!(buf.is_empty());
    }
    Decoder::new(Limits::HELLO).decode_whole(&bytes).unwrap().unwrap()
}

#[test]
fn the_hello_of_a_router_is_byte_for_byte_upstreams() {
    let mut hello = Hello::new("r-01", "v2.1.0|r|d|linux|amd64".parse().unwrap());
    hello.group = Some(GroupHello::first());
    hello.underlay_type = Some(CTRL_DEFAULT.into());
    hello.capabilities = Capabilities::NONE.with(capability::router::MULTI_CHANNEL);
    assert_eq!(hello.to_frame().to_bytes(), hex(HELLO));
    assert_eq!(Hello::from_frame(&frame(HELLO)), Ok(hello));
}

#[test]
fn the_result_of_a_controller_is_byte_for_byte_upstreams() {
    let accepted = AcceptedHello {
        connection_id: Some("Xk7q".into()),
        secret: Some((0xa0..=0xaf).collect::<Vec<u8>>().into()),
        id: Some("ctrl1".into()),
        version: Some("v2.1.0|c|d|linux|amd64".parse().unwrap()),
        capabilities: Capabilities::CONTROLLER,
        underlay_type: Some(CTRL_DEFAULT.into()),
        is_grouped: true,
        ..AcceptedHello::default()
    };
    assert_eq!(accepted.to_frame().to_bytes(), hex(RESULT));
    assert_eq!(HelloAnswer::from_frame(&frame(RESULT)), Ok(HelloAnswer::Accepted(Box::new(accepted))));
}

#[test]
fn a_refusal_is_upstreams_with_its_headers_in_ascending_order() {
    let refused = HelloAnswer::Refused { text: "busy".into(), class: RefusalClass::Busy };
    assert_eq!(refused.to_frame().to_bytes(), hex(REFUSAL_ASCENDING));
    assert_eq!(frame(REFUSAL), frame(REFUSAL_ASCENDING));
    assert_eq!(HelloAnswer::from_frame(&frame(REFUSAL)), Ok(refused));
}

#[test]
fn heartbeats_are_byte_for_byte_upstreams() {
    for (text, sequence, key) in [(HEARTBEAT, 7, header::HEARTBEAT), (HEARTBEAT_ANSWER, 9, header::HEARTBEAT_RESPONSE)]
    {
        let mut heartbeat = Frame::new(content_type::HEARTBEAT, Bytes::new());
        heartbeat.sequence = sequence;
        heartbeat.headers.set_u64(key, 1_700_000_000_000_000_000);
        assert_eq!(heartbeat.to_bytes(), hex(text));
        assert_eq!(frame(text), heartbeat);
    }
}

#[test]
fn a_version_negotiation_reply_is_an_error_of_its_own() {
    let reply = hex("03 06 09 0a  02 00 00 00  01 00 00 00  02 00 00 00");
    assert_eq!(reply, wire::frame::NEGOTIATION_REPLY);
    for cut in 0..reply.len() {
        assert_eq!(Decoder::new(Limits::HELLO).decode(&mut BytesMut::from(&reply[..cut])), Ok(None));
    }
    let error = Decoder::new(Limits::HELLO).decode(&mut BytesMut::from(&reply[..])).unwrap_err();
    assert_eq!(error, FrameError::VersionRefused { offered: vec![1, 2] });
    assert!(!error.wants_negotiation_reply());
}

/// Of ziti 1.6.20: headers 9 and 10 are there, and a further underlay is closed without a word.
#[test]
fn a_controller_before_2_0_echoes_a_group_and_takes_no_further_underlay() {
    let grouped = AcceptedHello {
        connection_id: Some("ZKBq".into()),
        secret: Some(Bytes::from_static(b"sixteen bytes ..")),
        is_grouped: true,
        capabilities: Capabilities::from_bits(0x1e),
        ..AcceptedHello::default()
    };
    assert!(!grouped.takes_further_underlays());
    let newer = AcceptedHello { capabilities: Capabilities::from_bits(0x3e), ..grouped.clone() };
    assert!(newer.takes_further_underlays());
    assert!(!AcceptedHello { is_grouped: false, ..newer.clone() }.takes_further_underlays());
    assert!(!AcceptedHello { secret: None, ..newer }.takes_further_underlays());
}

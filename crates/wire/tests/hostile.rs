//! What a peer can send to do harm: it gets an error, quickly, and no memory.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests are claims")]

use bytes::{BufMut, Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;
use wire::extension::{EXTENSION_BYTES_MAX, ErrorAnswer, ExtensionRequest};
use wire::frame::{HEADER_ENTRIES_MAX, MAGIC, ValueError, decode_bytes_map, decode_list, decode_text_map};
use wire::hello::{GroupHello, Hello, HelloAnswer, HelloError};
use wire::{Decoder, Frame, FrameError, Headers, Limits, MessageError, header, total};

fn preamble(header_bytes: u32, body_bytes: u32) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_slice(&MAGIC);
    out.put_i32_le(0);
    out.put_i32_le(-1);
    out.put_u32_le(header_bytes);
    out.put_u32_le(body_bytes);
    out
}

fn decode(limits: Limits, buf: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
    Decoder::new(limits).decode(buf)
}

#[test]
fn announced_lengths_over_the_caps_are_refused_before_anything_is_reserved() {
    for limits in [Limits::HELLO, Limits::CHANNEL] {
        let (most_headers, most_body) = (limits.header_bytes_max, limits.body_bytes_max);
        for (header_bytes, body_bytes) in [(u32::MAX, u32::MAX), (most_headers + 1, 0), (u32::MAX, 0)] {
            let mut buf = preamble(header_bytes, body_bytes);
            let capacity = buf.capacity();
            let error = decode(limits, &mut buf).unwrap_err();
            assert_eq!(error, FrameError::HeadersTooLong { bytes: header_bytes.into(), max_bytes: most_headers });
            assert_eq!(buf.capacity(), capacity);
        }
        for body_bytes in [most_body + 1, u32::MAX] {
            let error = decode(limits, &mut preamble(0, body_bytes)).unwrap_err();
            assert_eq!(error, FrameError::BodyTooLong { bytes: body_bytes.into(), max_bytes: most_body });
        }
    }
}

#[test]
fn an_announcement_within_the_caps_buys_64_kib_at_most() {
    let mut buf = preamble(Limits::DATA_MODEL.header_bytes_max, Limits::DATA_MODEL.body_bytes_max);
    for _ in 0..1000 {
        assert_eq!(decode(Limits::DATA_MODEL, &mut buf), Ok(None));
    }
    assert!(buf.capacity() <= 1 << 17, "{} bytes reserved", buf.capacity());
}

#[test]
fn a_frame_is_neither_sent_nor_received_over_the_caps() {
    let frame = Frame::new(0, vec![0; 4193]);
    let mut out = BytesMut::new();
    let error = FrameError::BodyTooLong { bytes: 4193, max_bytes: 4192 };
    assert_eq!(frame.encode_within(Limits::HELLO, &mut out), Err(error.clone()));
    assert!(out.is_empty());
    assert_eq!(Decoder::new(Limits::HELLO).decode_whole(&frame.to_bytes()), Err(error));
    let frame = Frame::new(0, vec![0; 4192]);
    assert_eq!(Decoder::new(Limits::HELLO).decode_whole(&frame.to_bytes()), Ok(Some(frame)));
}

#[test]
fn another_protocol_is_noticed_at_its_first_wrong_byte() {
    for (bytes, found) in
        [(&b"GET / HTTP/1.1\r\n"[..], &b"GET "[..]), (b"G", b"G"), (&[3, 6, 9, 0x0d], &[3, 6, 9, 0x0d])]
    {
        let error = decode(Limits::HELLO, &mut BytesMut::from(bytes)).unwrap_err();
        assert_eq!(error, FrameError::UnknownMagic { found: found.to_vec() });
        assert!(error.wants_negotiation_reply());
    }
    let mut reply = BytesMut::from(&[3, 6, 9, 0x0a, 65, 0, 0, 0][..]);
    assert_eq!(decode(Limits::HELLO, &mut reply), Err(FrameError::TooManyVersions { count: 65 }));
}

#[test]
fn a_header_block_cut_anywhere_but_between_entries_is_refused() {
    let mut block = BytesMut::new();
    for (key, value) in [(1, &b"abcd"[..]), (2, b""), (3, b"x")] {
        block.put_i32_le(key);
        block.put_u32_le(u32::try_from(value.len()).unwrap());
        block.put_slice(value);
    }
    for cut in 0..=block.len() {
        let headers = Headers::decode(Bytes::copy_from_slice(&block[..cut]));
        assert_eq!(headers.is_ok(), [0, 12, 20, 29].contains(&cut), "cut at {cut}");
    }
    let mut giant = BytesMut::from(&[9, 0, 0, 0][..]);
    giant.put_u32_le(u32::MAX);
    let needed = u64::from(u32::MAX) + 8;
    assert_eq!(Headers::decode(giant.freeze()), Err(FrameError::HeadersCutShort { left: 8, needed }));
}

#[test]
fn the_last_of_repeated_keys_counts_and_too_many_entries_are_refused() {
    let entry = |key: i32, value: u8| [&key.to_le_bytes()[..], &1_u32.to_le_bytes(), &[value]].concat();
    let repeated: Vec<u8> = (0..=HEADER_ENTRIES_MAX).flat_map(|n| entry(5, n.to_le_bytes()[0])).collect();
    let headers = Headers::decode(repeated.into()).unwrap();
    assert_eq!((headers.len(), headers.u8(5)), (1, Some(HEADER_ENTRIES_MAX.to_le_bytes()[0])));
    let many: Vec<u8> = (0..=HEADER_ENTRIES_MAX).flat_map(|n| entry(i32::try_from(n).unwrap(), 0)).collect();
    assert_eq!(Headers::decode(many.into()), Err(FrameError::TooManyHeaders { max: HEADER_ENTRIES_MAX }));
}

#[test]
fn a_header_of_the_wrong_length_is_absent() {
    let mut headers = Headers::new();
    headers.insert(1, vec![1, 2, 3]);
    headers.insert(2, Bytes::new());
    headers.insert(3, vec![0xff]);
    assert_eq!((headers.u16(1), headers.u32(1), headers.i32(1), headers.u64(1)), (None, None, None, None));
    assert_eq!((headers.u64_or_zero(1), headers.u64_or_zero(9)), (Some(0), None));
    assert_eq!((headers.bool(1), headers.bool(2), headers.bool(3)), (Some(true), None, Some(false)));
    assert_eq!((headers.text(2), headers.text(3), headers.text(9)), (Some(""), None, None));
}

#[test]
fn lists_and_maps_over_their_caps_are_refused_without_reserving() {
    let giant = u32::MAX.to_le_bytes();
    let too_many = ValueError::TooMany { count: u32::MAX as usize, max: 128 };
    assert_eq!(decode_list(&giant), Err(too_many));
    assert_eq!(decode_bytes_map(&giant), Err(too_many));
    assert_eq!(decode_text_map(&giant), Err(too_many));
    let long = [&1_u32.to_le_bytes()[..], &8193_u32.to_le_bytes()].concat();
    assert_eq!(decode_list(&long), Err(ValueError::TooLong { bytes: 8193 }));
    assert_eq!(decode_list(&[1, 0, 0, 0, 2, 0, 0, 0, b'a']), Err(ValueError::CutShort));
    assert_eq!(decode_list(&[0, 0, 0, 0, 9]), Err(ValueError::Trailing(1)));
    assert_eq!(decode_list(&[1, 0, 0, 0, 1, 0, 0, 0, 0xff]), Err(ValueError::NotText));
    assert_eq!(decode_list(&[]), Ok(vec![]));
}

#[test]
fn a_hello_that_names_nobody_or_no_version_is_refused() {
    let hello = Hello::new("r-01", "v2.1.0|r|d|linux|amd64".parse().unwrap());
    let spoilt = |spoil: fn(&mut Frame)| {
        let mut frame = hello.to_frame();
        spoil(&mut frame);
        Hello::from_frame(&frame).unwrap_err()
    };
    assert_eq!(spoilt(|frame| frame.body = Bytes::new()), HelloError::NoId);
    assert_eq!(spoilt(|frame| frame.body = vec![0xff].into()), HelloError::NotText { what: "caller's id" });
    assert_eq!(spoilt(|frame| frame.content_type = 5), HelloError::NotAHello { found: 5 });
    assert!(matches!(spoilt(|frame| drop(frame.headers.remove(header::HELLO_VERSION))), HelloError::NoVersion));
    assert!(matches!(spoilt(|frame| frame.headers.set_text(header::HELLO_VERSION, "2.1")), HelloError::Version(_)));
}

#[test]
fn a_routers_own_header_10_is_no_secret_unless_it_says_it_is_grouped() {
    let mut hello = Hello::new("old", "v1.6.18|r|d|linux|amd64".parse().unwrap());
    hello.extra.insert(header::LEGACY_LISTENERS, Bytes::from_static(&[0x0a, 0x05, 0x0a, 0x03, b't', b'l', b's']));
    let came = Hello::from_frame(&hello.to_frame()).unwrap();
    assert_eq!(came.group, None);
    assert_eq!(came.link_listeners().unwrap()[0].address, "tls");
    hello.group = Some(GroupHello { secret: Some(Bytes::from_static(b"secret")), ..GroupHello::first() });
    let came = Hello::from_frame(&hello.to_frame()).unwrap();
    assert_eq!(came.group.as_ref().unwrap().secret.as_deref(), Some(&b"secret"[..]));
    assert_eq!(came.link_listeners(), Ok(vec![]));
    assert!(!format!("{came:?} {:?}", hello.to_frame().headers).contains("secret\""), "secrets are not shown");
}

#[test]
fn only_a_result_that_answers_nothing_else_answers_a_hello() {
    let mut frame = HelloAnswer::Accepted(Box::default()).to_frame();
    frame.headers.remove(header::REPLY_FOR);
    assert!(HelloAnswer::from_frame(&frame).is_ok(), "an absent reply-for reads as -1");
    frame.set_reply_for(3);
    assert_eq!(HelloAnswer::from_frame(&frame), Err(HelloError::ReplyToAnother { reply_for: 3 }));
    frame.content_type = 1;
    assert_eq!(HelloAnswer::from_frame(&frame), Err(HelloError::NotAResult { found: 1 }));
}

#[test]
fn a_csr_of_ten_megabytes_is_refused_unread() {
    let request = ExtensionRequest { client_csr_pem: "x".repeat(10 << 20), ..ExtensionRequest::default() };
    let error = ExtensionRequest::from_frame(&request.to_frame()).unwrap_err();
    assert!(matches!(error, MessageError::TooLong { max_bytes: EXTENSION_BYTES_MAX, .. }));
    assert!(error.to_string().contains("`ExtensionRequest` (20302)"));
}

#[test]
fn an_empty_error_answer_is_success_and_a_malformed_one_is_not() {
    let answer = ErrorAnswer::from_frame(&Frame::new(20002, "")).unwrap();
    assert!(answer.is_success());
    assert!(ErrorAnswer::success().to_frame().body.is_empty());
    assert!(matches!(ErrorAnswer::from_frame(&Frame::new(20002, "busy")), Err(MessageError::Malformed { .. })));
    assert!(matches!(ErrorAnswer::from_frame(&Frame::new(2, "")), Err(MessageError::OtherType { .. })));
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_survived(data in vec(any::<u8>(), 0..300)) {
        total::fuzz_stream(&data);
        total::fuzz_headers(&data);
        total::fuzz_messages(&data);
        total::fuzz_hello(&data);
        total::fuzz_values(&data);
    }

    #[test]
    fn arbitrary_bytes_behind_a_true_preamble_are_survived(
        data in vec(any::<u8>(), 0..300),
        header_bytes in 0..320_u32,
        body_bytes in 0..320_u32,
        content_type in prop_oneof![0..8_i32, 1000..1060_i32, 20000..20510_i32],
    ) {
        let mut stream = preamble(header_bytes, body_bytes);
        stream[4..8].copy_from_slice(&content_type.to_le_bytes());
        stream.extend_from_slice(&data);
        total::fuzz_stream(&stream);
    }

    #[test]
    fn arbitrary_headers_of_true_keys_are_survived(
        entries in vec((prop_oneof![0..20_i32, 1000..1030_i32, 2000..2006_i32, 21000..21016_i32], vec(any::<u8>(), 0..20)), 0..12),
    ) {
        let mut block = Vec::new();
        for (key, value) in entries {
            block.extend_from_slice(&key.to_le_bytes());
            block.extend_from_slice(&u32::try_from(value.len()).unwrap().to_le_bytes());
            block.extend_from_slice(&value);
        }
        total::fuzz_headers(&block);
        total::fuzz_hello(&block);
    }
}

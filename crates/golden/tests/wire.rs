//! `wire` against what real peers wrote: every frame, every header, every message.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests are claims")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bytes::{BufMut as _, Bytes, BytesMut};
use golden::fixture::{Captured, Conversation};
use netfault::proxy::Way;
use wire::control::{
    Alerts, InspectRequest, InspectResponse, PeerStateChanges, RouterLinks, Settings, UpdateClusterLeader,
    UpdateCtrlAddresses, UpdateLinkListeners, UpdateRouterInterfaces, ValidateTerminatorsV2, VerifyRouter,
};
use wire::edge::{ClientHello, CurrentIndex, DataState, DataStateChangeSet, ServerHello, SubscribeToDataModel};
use wire::extension::{CertsResponse, ErrorAnswer, ExtensionRequest, ExtensionVerify};
use wire::hello::{Hello, HelloAnswer};
use wire::outcome::Outcome;
use wire::{Decoder, Frame, Limits, content_type, header};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/frames")
}

fn all() -> Vec<Conversation> {
    Conversation::all(&root()).unwrap()
}

fn each(claim: impl Fn(&Conversation, &Captured)) {
    for conversation in all() {
        for one in &conversation.frames {
            claim(&conversation, one);
        }
    }
}

/// The same frame with its headers in the order in which we write them: ascending.
fn ascending(bytes: &Bytes) -> Bytes {
    let length = u32::from_le_bytes(bytes[12..16].try_into().unwrap()) as usize;
    let mut block = &bytes[20..20 + length];
    let mut entries = Vec::new();
    while !block.is_empty() {
        let key = i32::from_le_bytes(block[..4].try_into().unwrap());
        let size = u32::from_le_bytes(block[4..8].try_into().unwrap()) as usize;
        entries.push((key, &block[..8 + size]));
        block = &block[8 + size..];
    }
    entries.sort_by_key(|(key, _)| *key);
    let mut out = BytesMut::from(&bytes[..20]);
    entries.iter().for_each(|(_, entry)| out.put_slice(entry));
    out.put_slice(&bytes[20 + length..]);
    out.freeze()
}

#[test]
fn every_frame_is_read_however_it_is_cut_and_written_again_as_it_was() {
    each(|conversation, one| {
        let limits = if one.is_greeting() { Limits::HELLO } else { Limits::CHANNEL };
        let length = one.bytes.len();
        for cut in [0, 1, 3, 4, 19, 20, length / 2, length - 1] {
            let mut decoder = Decoder::new(limits);
            let mut buffer = BytesMut::from(&one.bytes[..cut.min(length - 1)]);
            assert_eq!(decoder.decode(&mut buffer), Ok(None), "{}: cut at {cut}", conversation.name);
            let missing = &one.bytes[buffer.len()..];
            buffer.extend_from_slice(missing);
            assert_eq!(decoder.decode(&mut buffer).unwrap().as_ref(), Some(&one.frame), "{}", conversation.name);
        }
        assert_eq!(one.frame.to_bytes(), ascending(&one.bytes), "{}: {:?}", conversation.name, one.frame);
    });
}

/// Reads a message and writes it again; it must say the same then. `true` if its body is the same byte for byte, too.
macro_rules! again {
    ($message:ty, $frame:expr) => {{
        let first = <$message>::from_frame($frame).unwrap_or_else(|error| panic!("{error}: {:?}", $frame));
        let written = first.to_frame();
        assert_eq!(<$message>::from_frame(&written).as_ref(), Ok(&first));
        Some(written.body == $frame.body)
    }};
}

/// `None` for what has no type of its own.
fn is_the_same_again(one: &Captured) -> Option<bool> {
    let frame = &one.frame;
    match frame.content_type {
        content_type::HELLO => {
            let hello = Hello::from_frame(frame).unwrap();
            assert_eq!(hello.to_frame(), *frame, "a hello keeps every header");
            Some(true)
        }
        content_type::RESULT if one.is_greeting() => {
            let answer = HelloAnswer::from_frame(frame).unwrap();
            assert!(matches!(answer, HelloAnswer::Accepted(_)));
            assert_eq!(HelloAnswer::from_frame(&answer.to_frame()).as_ref(), Ok(&answer));
            Some(true)
        }
        content_type::RESULT => {
            assert!(Outcome::from_frame(frame).unwrap().is_success, "these all worked");
            Some(true)
        }
        content_type::SETTINGS => again!(Settings, frame),
        content_type::UPDATE_CTRL_ADDRESSES => again!(UpdateCtrlAddresses, frame),
        content_type::UPDATE_CLUSTER_LEADER => again!(UpdateClusterLeader, frame),
        content_type::PEER_STATE_CHANGE => again!(PeerStateChanges, frame),
        content_type::UPDATE_LINK_LISTENERS => again!(UpdateLinkListeners, frame),
        content_type::VERIFY_ROUTER => again!(VerifyRouter, frame),
        content_type::ROUTER_LINKS => again!(RouterLinks, frame),
        content_type::UPDATE_ROUTER_INTERFACES => again!(UpdateRouterInterfaces, frame),
        content_type::ALERTS => again!(Alerts, frame),
        content_type::INSPECT_REQUEST => again!(InspectRequest, frame),
        content_type::INSPECT_RESPONSE => again!(InspectResponse, frame),
        content_type::VALIDATE_TERMINATORS_V2_REQUEST => again!(ValidateTerminatorsV2, frame),
        content_type::SERVER_HELLO => again!(ServerHello, frame),
        content_type::CLIENT_HELLO => {
            let first = ClientHello::from_frame(frame).unwrap();
            let written = first.to_reply(&Frame::new(content_type::SERVER_HELLO, ""));
            assert_eq!(ClientHello::from_frame(&written).as_ref(), Ok(&first));
            Some(written.body == frame.body)
        }
        content_type::SUBSCRIBE_TO_DATA_MODEL => again!(SubscribeToDataModel, frame),
        content_type::DATA_STATE => again!(DataState, frame),
        content_type::DATA_STATE_CHANGE_SET => again!(DataStateChangeSet, frame),
        content_type::CURRENT_INDEX => again!(CurrentIndex, frame),
        content_type::EXTENSION_REQUEST => again!(ExtensionRequest, frame),
        content_type::ENROLLMENT_CERTS => again!(CertsResponse, frame),
        content_type::EXTENSION_VERIFY => again!(ExtensionVerify, frame),
        content_type::ERROR => again!(ErrorAnswer, frame),
        _ => None,
    }
}

/// Messages whose bodies we write otherwise: of links and of the data model we know a part and never write what a peer said; the map of a
/// greeting has no order.
const KNOWN_IN_PART: &[i32] = &[
    content_type::ROUTER_LINKS,
    content_type::SERVER_HELLO,
    content_type::DATA_STATE,
    content_type::DATA_STATE_CHANGE_SET,
];
/// Messages that we read no body of: they concern links, circuits, sessions and statistics, or are nothing but headers.
const WITHOUT_A_TYPE: &[i32] = &[
    content_type::HEARTBEAT,
    content_type::FAULT,
    content_type::LINK_STATE,
    content_type::REQUEST_CLUSTER_MEMBERS,
    content_type::API_SESSION_ADDED,
    content_type::CONNECT_EVENTS,
];

#[test]
fn every_message_says_the_same_when_it_is_written_again() {
    let (mut in_part, mut without) = (BTreeSet::new(), BTreeSet::new());
    each(|_, one| {
        assert!(content_type::name(one.frame.content_type).is_some(), "nobody knows {:?}", one.frame);
    });
    for conversation in all() {
        for one in &conversation.frames {
            match is_the_same_again(one) {
                Some(true) => {}
                Some(false) => drop(in_part.insert(one.frame.content_type)),
                None => drop(without.insert(one.frame.content_type)),
            }
        }
    }
    assert_eq!(in_part.into_iter().collect::<Vec<_>>(), KNOWN_IN_PART);
    assert_eq!(without.into_iter().collect::<Vec<_>>(), WITHOUT_A_TYPE);
}

/// What we call this header of that frame.
fn is_named(one: &Captured, key: i32) -> bool {
    let kind = one.frame.content_type;
    let anywhere = [header::REPLY_FOR, header::HEARTBEAT, header::HEARTBEAT_RESPONSE, header::REFLECTED];
    let of_greetings = [
        header::CONNECTION_ID,
        header::HELLO_VERSION,
        header::TYPE,
        header::IS_GROUPED,
        header::GROUP_SECRET,
        header::CAPABILITIES,
        header::EXUVIA_VERSION,
        header::EXUVIA_WINDOW_FROM,
        header::EXUVIA_WINDOW_TO,
        header::EXUVIA_RENEW_NOW,
    ];
    // In a hello without group, 10 is what is 1000 in the others, and 11 what is 1001.
    let of_hellos = [header::IS_FIRST, header::LISTENERS, header::CTRL_CHAN_LISTENERS, header::ROUTER_METADATA];
    let of_answers = [
        header::RESULT_SUCCESS,
        header::ID,
        header::LEGACY_PEER_ADDRESS,
        header::LEGACY_CAPABILITIES,
        header::LEGACY_CLUSTER_ID,
        header::CLUSTER_PEER_ADDRESS,
        header::CLUSTER_ID,
        header::CLUSTER_PREFERRED_LEADER,
    ];
    anywhere.contains(&key)
        || match kind {
            content_type::HELLO => of_greetings.contains(&key) || of_hellos.contains(&key),
            content_type::RESULT if one.is_greeting() => of_greetings.contains(&key) || of_answers.contains(&key),
            content_type::RESULT => key == header::RESULT_SUCCESS,
            content_type::SERVER_HELLO => key == header::DATA_MODEL_SUPPORTED,
            content_type::CLIENT_HELLO => [header::DATA_MODEL_SUPPORTED, header::DATA_MODEL_INDEX].contains(&key),
            content_type::DATA_STATE | content_type::DATA_STATE_CHANGE_SET => key == header::DATA_MODEL_SUBSCRIPTION,
            content_type::CURRENT_INDEX => key == header::DATA_MODEL_INDEX,
            _ => false,
        }
}

/// Headers that we have no use for: content type, key, what it is.
const TOLERATED: &[(i32, i32, &str)] = &[
    (content_type::RESULT, 13, "answer to a hello: where the REST interfaces are; JSON"),
    (content_type::RESULT, 2002, "answer to a hello: the same, from 2.0 on"),
    (content_type::API_SESSION_ADDED, 1013, "how sessions are synchronized"),
    (content_type::API_SESSION_ADDED, 1014, "how far that is"),
];

#[test]
fn every_header_has_a_name_or_is_listed_as_one_that_we_ignore() {
    let mut ignored = BTreeSet::new();
    for conversation in all() {
        for one in &conversation.frames {
            for (key, _) in one.frame.headers.iter().filter(|(key, _)| !is_named(one, *key)) {
                ignored.insert((one.frame.content_type, key));
            }
        }
    }
    let listed: BTreeSet<_> = TOLERATED.iter().map(|(kind, key, _)| (*kind, *key)).collect();
    assert_eq!(ignored, listed);
}

/// A capture that lost something is not a refreshed one.
#[test]
fn every_release_shows_a_whole_channel_and_a_whole_renewal() {
    let wanted = [
        (Way::ToController, content_type::HELLO),
        (Way::ToRouter, content_type::RESULT),
        (Way::ToController, content_type::HEARTBEAT),
        (Way::ToRouter, content_type::HEARTBEAT),
        (Way::ToRouter, content_type::UPDATE_CTRL_ADDRESSES),
        (Way::ToRouter, content_type::PEER_STATE_CHANGE),
        (Way::ToRouter, content_type::UPDATE_CLUSTER_LEADER),
        (Way::ToRouter, content_type::SERVER_HELLO),
        (Way::ToController, content_type::CLIENT_HELLO),
        (Way::ToController, content_type::ROUTER_LINKS),
        (Way::ToController, content_type::VERIFY_ROUTER),
        (Way::ToRouter, content_type::INSPECT_REQUEST),
        (Way::ToController, content_type::INSPECT_RESPONSE),
        (Way::ToController, content_type::SUBSCRIBE_TO_DATA_MODEL),
        (Way::ToRouter, content_type::DATA_STATE),
        (Way::ToRouter, content_type::DATA_STATE_CHANGE_SET),
        (Way::ToController, content_type::EXTENSION_REQUEST),
        (Way::ToRouter, content_type::ENROLLMENT_CERTS),
        (Way::ToController, content_type::EXTENSION_VERIFY),
        (Way::ToRouter, content_type::ERROR),
    ];
    let conversations = all();
    let release = |conversation: &Conversation| conversation.name.split('/').next().unwrap().to_owned();
    let releases: BTreeSet<_> = conversations.iter().map(release).collect();
    assert!(releases.contains("2.1") && releases.contains("1.6"), "{releases:?}");
    for of_it in releases {
        for (way, kind) in wanted {
            let is_it = |one: &Captured| one.way == way && one.frame.content_type == kind;
            let is_there = conversations.iter().any(|one| release(one) == of_it && one.frames.iter().any(is_it));
            assert!(is_there, "{of_it} lacks {:?} {way:?}", content_type::name(kind));
        }
    }
}

#[test]
fn the_fixtures_are_small_and_hold_no_private_key() {
    let (mut folders, mut bytes) = (vec![root()], 0);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read(&path).unwrap();
            bytes += text.len();
            let is_secret = text.windows(11).any(|word| word == b"PRIVATE KEY");
            assert!(!is_secret, "{}", path.display());
        }
    }
    assert!(bytes < 1 << 20, "{bytes} bytes");
}

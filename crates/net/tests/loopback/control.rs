//! Dialing, admission, groups.

use std::time::Duration;

use bytes::Bytes;
use lifecycle::{GenerationNumber, RouterId};
use net::channel::{ChannelSettings, CloseReason, DetachReason, Event};
use net::connect::{ConnectError, ConnectTimeouts, Endpoint};
use net::dial::{ControlDial, DialError, dial};
use tokio::net::TcpListener;
use tokio::time::timeout;
use wire::hello::{GroupHello, RefusalClass};
use wire::{Frame, content_type};

use crate::authority::{Authority, PATIENCE};
use crate::door::{Door, Mood, Options, further, hello};

#[tokio::test]
async fn an_admitted_router_and_its_controller_talk_both_ways() {
    let authority = Authority::new();
    let mut door = Door::open(&authority).await;
    let credentials = authority.credentials("r1", 12);
    let connected = door.dial(&credentials, hello("r1")).await.unwrap();
    let answer = connected.answer.clone();
    assert_eq!(answer.id.as_deref(), Some("ctrl1"));
    assert!(answer.connection_id.is_some_and(|id| !id.is_empty()));
    assert_eq!(answer.secret.map(|secret| secret.len()), Some(16));
    assert_eq!((answer.underlay_type.as_deref(), answer.is_grouped), (Some("ctrl.default"), true));
    let presented = connected.underlay.presented.unwrap();
    assert_eq!((presented.generation, presented.leaf), (GenerationNumber(12), credentials.client_leaf().fingerprint));

    let mut opened = door.next_opened().await;
    assert_eq!((opened.router.clone(), opened.standing), (RouterId::new("r1"), 7));
    let peer = opened.channel.underlays()[0].peer.clone().unwrap();
    assert_eq!(peer.fingerprint(), credentials.client_leaf().fingerprint);

    let (channel, mut events) = connected.open(ChannelSettings::dialing());
    let asking = channel.request(Frame::new(content_type::METRICS, "from the router"), PATIENCE);
    let answering = async {
        loop {
            if let Some(Event::Message { frame, .. }) = opened.events.next().await {
                opened.channel.reply(&frame, Frame::new(content_type::RESULT, frame.body.clone())).await.unwrap();
                break;
            }
        }
    };
    let (reply, ()) = tokio::join!(asking, answering);
    assert_eq!(reply.unwrap().body, "from the router");
    opened.channel.send(Frame::new(content_type::SETTINGS, "from the controller")).await.unwrap();
    loop {
        if let Event::Message { frame, .. } = events.next().await.unwrap() {
            assert_eq!(frame.body, "from the controller");
            break;
        }
    }
}

#[tokio::test]
async fn nothing_is_answered_before_admission_has_returned() {
    let authority = Authority::new();
    let mut door = Door::open_with(&authority, Options { decisions: 0, ..Options::default() }).await;
    let credentials = authority.credentials("r1", 1);
    let doorman = door.doorman.clone();
    {
        let dialing = door.dial(&credentials, hello("r1"));
        tokio::pin!(dialing);
        tokio::select! {
            early = &mut dialing => panic!("answered before it was decided: {early:?}"),
            () = doorman.was_asked.notified() => {}
        }
        // The question is out, the answer is not; nothing may arrive however long one listens.
        assert!(timeout(Duration::from_millis(100), &mut dialing).await.is_err());
        assert_eq!(door.channels.count(), 0);
        doorman.decisions.add_permits(1);
        dialing.await.unwrap();
    }
    door.next_opened().await;
}

#[tokio::test]
async fn silence_and_a_spoken_refusal_look_different_to_the_dialer() {
    let authority = Authority::new();
    let credentials = authority.credentials("r1", 1);
    let silent = Door::open_with(&authority, Options { mood: Mood::Silent, ..Options::default() }).await;
    let error = silent.dial(&credentials, hello("r1")).await.unwrap_err();
    assert!(matches!(error, DialError::ClosedWithoutAnswer { .. }), "{error:?}");
    let spoken = Door::open_with(&authority, Options { mood: Mood::Talkative, ..Options::default() }).await;
    let error = spoken.dial(&credentials, hello("r1")).await.unwrap_err();
    let DialError::Refused { text, class, .. } = error else { panic!("{error:?}") };
    assert_eq!((text.as_str(), class), ("not today", RefusalClass::Busy));
}

#[tokio::test]
async fn answered_and_closed_at_once_is_seen_as_admitted_and_then_closed() {
    let authority = Authority::new();
    let mut door = Door::open(&authority).await;
    let connected = door.dial(&authority.credentials("r1", 1), hello("r1")).await.expect("the answer is the proof");
    door.next_opened().await.channel.close(CloseReason::ByOwner("displaced"));
    let settings = ChannelSettings { last_underlay: net::channel::LastUnderlay::Closes, ..ChannelSettings::dialing() };
    let (channel, _events) = connected.open(settings);
    assert_eq!(channel.closed().await, CloseReason::LastUnderlayLost(DetachReason::PeerClosed));
}

#[tokio::test]
async fn a_further_underlay_joins_with_a_newer_leaf_of_the_same_router() {
    let authority = Authority::new();
    let mut door = Door::open(&authority).await;
    let connected = door.dial(&authority.credentials("r1", 1), hello("r1")).await.unwrap();
    let answer = connected.answer.clone();
    let (channel, _events) = connected.open(ChannelSettings::dialing());
    let opened = door.next_opened().await;
    let renewed = authority.credentials("r1", 2);
    let second = door.dial(&renewed, further("r1", &answer)).await.unwrap();
    assert_eq!(second.answer.connection_id, answer.connection_id);
    second.join(&channel).unwrap();
    let joined = door.next_joined().await;
    let underlays = opened.channel.underlays();
    assert_eq!(underlays.iter().map(|u| u.kind.as_str()).collect::<Vec<_>>(), ["ctrl.default", "ctrl.high"]);
    assert_eq!(underlays[1].id, joined);
    assert_ne!(underlays[0].peer, underlays[1].peer, "each underlay shows its own leaf");
    assert_eq!(channel.underlays().len(), 2);
    assert_eq!(door.channels.of(&RouterId::new("r1")).len(), 1);
}

#[tokio::test]
async fn a_wrong_secret_joins_nothing() {
    let authority = Authority::new();
    let mut door = Door::open(&authority).await;
    let credentials = authority.credentials("r1", 1);
    let first = door.dial(&credentials, hello("r1")).await.unwrap();
    let opened = door.next_opened().await;
    let mut guess = first.answer.clone();
    guess.secret = Some(Bytes::from_static(&[0; 16]));
    let error = door.dial(&credentials, further("r1", &guess)).await.unwrap_err();
    assert!(matches!(error, DialError::ClosedWithoutAnswer { .. }), "{error:?}");
    guess.secret = first.answer.secret.as_ref().map(|secret| secret.slice(..15));
    assert!(door.dial(&credentials, further("r1", &guess)).await.is_err());
    assert_eq!((opened.channel.underlays().len(), door.asked()), (1, 1));
}

#[tokio::test]
async fn another_routers_leaf_joins_nothing_although_it_knows_id_and_secret() {
    let authority = Authority::new();
    let mut door = Door::open(&authority).await;
    let first = door.dial(&authority.credentials("victim", 1), hello("victim")).await.unwrap();
    let opened = door.next_opened().await;
    let thief = authority.credentials("thief", 1);
    // Under the victim's name, then under his own.
    for name in ["victim", "thief"] {
        let error = door.dial(&thief, further(name, &first.answer)).await.unwrap_err();
        assert!(matches!(error, DialError::ClosedWithoutAnswer { .. }), "{error:?}");
    }
    assert_eq!(opened.channel.underlays().len(), 1);
}

#[tokio::test]
async fn nobody_can_occupy_the_connection_id_of_another_routers_next_channel() {
    let authority = Authority::new();
    let mut door = Door::open(&authority).await;
    let named = |router: &str| {
        let mut hello = hello(router);
        let secret = Some(Bytes::copy_from_slice(router.as_bytes()));
        hello.group = Some(GroupHello { is_first: true, connection_id: Some("abcde-1".to_owned()), secret });
        hello
    };
    let _squatter = door.dial(&authority.credentials("thief", 1), named("thief")).await.unwrap();
    let squatted = door.next_opened().await;
    let connected = door.dial(&authority.credentials("victim", 1), named("victim")).await.unwrap();
    let opened = door.next_opened().await;
    assert!(!opened.channel.is_same(&squatted.channel));
    // A channel that is made anew keeps its old secret.
    assert_eq!(connected.answer.connection_id.as_deref(), Some("abcde-1"));
    assert_eq!(connected.answer.secret.as_deref(), Some(&b"victim"[..]));
}

#[tokio::test]
async fn an_empty_connection_id_is_none() {
    let authority = Authority::new();
    let mut door = Door::open(&authority).await;
    let mut hello = hello("r1");
    hello.group = Some(GroupHello { is_first: true, connection_id: Some(String::new()), secret: Some(Bytes::new()) });
    let connected = door.dial(&authority.credentials("r1", 1), hello).await.unwrap();
    let _opened = door.next_opened().await;
    assert!(connected.answer.connection_id.is_some_and(|id| !id.is_empty()));
    assert!(connected.answer.secret.is_some_and(|secret| !secret.is_empty()));
}

#[tokio::test]
async fn a_first_connection_that_names_an_open_group_joins_it_or_nothing() {
    let authority = Authority::new();
    let mut door = Door::open(&authority).await;
    let credentials = authority.credentials("r1", 1);
    let first = door.dial(&credentials, hello("r1")).await.unwrap();
    let opened = door.next_opened().await;
    let mut again = further("r1", &first.answer);
    if let Some(group) = &mut again.group {
        group.is_first = true;
    }
    let _second = door.dial(&credentials, again.clone()).await.unwrap();
    door.next_joined().await;
    assert_eq!(opened.channel.underlays().len(), 2);
    if let Some(group) = &mut again.group {
        group.secret = None;
    }
    assert!(door.dial(&credentials, again).await.is_err());
    assert_eq!(opened.channel.underlays().len(), 2);
}

#[tokio::test]
async fn a_group_that_is_gone_takes_no_further_underlay() {
    let authority = Authority::new();
    let mut door = Door::open(&authority).await;
    let credentials = authority.credentials("r1", 1);
    let first = door.dial(&credentials, hello("r1")).await.unwrap();
    let opened = door.next_opened().await;
    opened.channel.close(CloseReason::ByOwner("gone"));
    opened.channel.drained().await;
    let error = door.dial(&credentials, further("r1", &first.answer)).await.unwrap_err();
    assert!(matches!(error, DialError::ClosedWithoutAnswer { .. }), "{error:?}");
    assert_eq!((door.channels.count(), door.asked()), (0, 1), "and its leaf was not even looked at");
}

#[tokio::test]
async fn a_channel_without_a_group_is_a_channel_too() {
    let authority = Authority::new();
    let mut door = Door::open(&authority).await;
    let mut plain = hello("r1");
    plain.group = None;
    let connected = door.dial(&authority.credentials("r1", 1), plain).await.unwrap();
    assert_eq!((connected.answer.is_grouped, connected.answer.secret.clone()), (false, None));
    assert_eq!(door.next_opened().await.channel.underlays().len(), 1);
}

#[tokio::test]
async fn every_way_to_fail_before_the_hello_has_its_own_name() {
    let authority = Authority::new();
    let door = Door::open(&authority).await;
    let dialing = |credentials, timeouts| ControlDial { credentials, hello: hello("r1"), timeouts };
    let ours = authority.credentials("r1", 1);

    let vacant = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = dial(&vacant.into(), &dialing(ours.clone(), ConnectTimeouts::default())).await.unwrap_err();
    assert!(matches!(error, DialError::Connect(ConnectError::Tcp { .. })), "{error:?}");

    let foreign = Authority::new().credentials("r1", 1);
    let error = door.dial(&foreign, hello("r1")).await.unwrap_err();
    assert!(matches!(error, DialError::Connect(ConnectError::NotTrusted { .. })), "{error:?}");

    // Right certificate, wrong name.
    let elsewhere = Endpoint::new("127.0.0.2", door.address.port());
    let bound = Door::open_with(&authority, Options { bind: "0.0.0.0:0", ..Options::default() }).await;
    let elsewhere = Endpoint { port: bound.address.port(), ..elsewhere };
    let error = dial(&elsewhere, &dialing(ours.clone(), ConnectTimeouts::default())).await.unwrap_err();
    assert!(matches!(error, DialError::Connect(ConnectError::NotTrusted { .. })), "{error:?}");

    let deaf = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let soon = ConnectTimeouts { handshake: Duration::from_millis(20), ..ConnectTimeouts::default() };
    let error = dial(&deaf.local_addr().unwrap().into(), &dialing(ours, soon)).await.unwrap_err();
    assert!(matches!(error, DialError::Connect(ConnectError::TimedOut { .. })), "{error:?}");
}

#[tokio::test]
async fn names_and_ipv6_addresses_can_be_dialed() {
    let authority = Authority::new();
    let credentials = authority.credentials("r1", 1);
    let door = Door::open(&authority).await;
    let request = ControlDial { credentials, hello: hello("r1"), timeouts: ConnectTimeouts::default() };
    // `localhost` may resolve to ::1 first, where nobody listens.
    let by_name = Endpoint::new("localhost", door.address.port());
    dial(&by_name, &request).await.expect("every address of a name is tried");

    if TcpListener::bind("[::1]:0").await.is_err() {
        eprintln!("skipped: this machine has no IPv6 loopback");
        return;
    }
    let door = Door::open_with(&authority, Options { bind: "[::1]:0", ..Options::default() }).await;
    let bracketed = Endpoint::new("[::1]", door.address.port());
    assert_eq!(bracketed.to_string(), door.address.to_string());
    dial(&bracketed, &request).await.unwrap();
}

#[tokio::test]
async fn stopping_closes_every_channel_and_says_so() {
    let authority = Authority::new();
    let mut door = Door::open(&authority).await;
    let connected = door.dial(&authority.credentials("r1", 1), hello("r1")).await.unwrap();
    let (channel, mut events) = connected.open(ChannelSettings::dialing());
    let opened = door.next_opened().await;
    door.stop.stop();
    timeout(PATIENCE, door.serving).await.expect("it does not stop").unwrap();
    assert_eq!(opened.channel.close_reason(), Some(CloseReason::Shutdown));
    loop {
        if let Event::Detached { reason, .. } = events.next().await.unwrap() {
            assert_eq!(reason, DetachReason::PeerClosed);
            break;
        }
    }
    assert_eq!(channel.underlays().len(), 0);
    assert!(tokio::net::TcpStream::connect(door.address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn closing_a_routers_channels_leaves_the_others_alone() {
    let authority = Authority::new();
    let mut door = Door::open(&authority).await;
    let mut open = Vec::new();
    for id in ["r1", "r2"] {
        let _kept = door.dial(&authority.credentials(id, 1), hello(id)).await.unwrap().open(ChannelSettings::dialing());
        open.push((door.next_opened().await, _kept));
    }
    door.channels.close_router(&RouterId::new("r1"), CloseReason::ByOwner("revoked"));
    assert_eq!(open[0].0.channel.close_reason(), Some(CloseReason::ByOwner("revoked")));
    open[0].0.channel.drained().await;
    assert_eq!((open[1].0.channel.close_reason(), door.channels.of(&RouterId::new("r2")).len()), (None, 1));
}

//! Peers that do not play by the rules.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use net::credentials::Credentials;
use net::http::HttpService;
use net::listen::{ListenLimits, turned_away};
use net::tls::{self, ALPN_CONTROL, ServerTrust};
use pki::Profile;
use rustls::client::Resumption;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{AlertDescription, ClientConfig, HandshakeKind, RootCertStore, SupportedProtocolVersion};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use wire::Frame;

use crate::authority::{Authority, PATIENCE, key, lasting};
use crate::door::{Door, Options, hello};

const BOTH: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

async fn connect(door: &Door, config: Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(door.address).await?;
    let name = ServerName::try_from("127.0.0.1").unwrap();
    timeout(PATIENCE, TlsConnector::from(config).connect(name, tcp)).await.expect("the handshake hangs")
}

/// Reads until the end; the alert, if that is how it ended.
async fn ends(stream: &mut TlsStream<TcpStream>) -> Option<rustls::Error> {
    let mut sink = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut sink)).await.expect("the connection stays open");
    read.err().and_then(|error| alert(&error))
}

fn alert(error: &io::Error) -> Option<rustls::Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()).cloned()
}

/// A client that would resume if it were allowed to.
fn eager(
    authority: &Authority,
    version: &'static SupportedProtocolVersion,
    identity: Option<CertifiedKey>,
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for anchor in authority.bundle().certificates() {
        roots.add(anchor.to_rustls()).unwrap();
    }
    let builder = ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match identity {
        Some(identity) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity))),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![ALPN_CONTROL.to_vec()];
    config.resumption = Resumption::in_memory_sessions(16);
    Arc::new(config)
}

fn of(credentials: &Credentials) -> CertifiedKey {
    credentials.client().as_ref().clone()
}

#[tokio::test]
async fn a_leaf_without_its_key_is_refused_in_the_handshake() {
    let authority = Authority::new();
    let door = Door::open(&authority).await;
    let victim = authority.leaf("victim", &key(), Profile::Client, &lasting(-60, 3600));
    for version in BOTH {
        let stolen_leaf = CertifiedKey::new(
            victim.to_rustls(),
            tls::provider().key_provider.load_private_key(key().to_rustls().unwrap()).unwrap(),
        );
        // TLS 1.3 clients learn it after their side of the handshake is done, TLS 1.2 clients within.
        let error = match connect(&door, eager(&authority, version, Some(stolen_leaf))).await {
            Ok(mut stream) => {
                let _ = stream.write_all(&hello("victim").to_frame().to_bytes()).await;
                ends(&mut stream).await
            }
            Err(error) => alert(&error),
        };
        let Some(rustls::Error::AlertReceived(alert)) = error else { panic!("{:?}: {error:?}", version.version) };
        assert!(matches!(alert, AlertDescription::DecryptError | AlertDescription::BadCertificate), "{alert:?}");
    }
    assert_eq!(door.asked(), 0, "nobody was even asked about it");
}

#[tokio::test]
async fn the_control_plane_shakes_no_hand_without_a_certificate() {
    let authority = Authority::new();
    let door = Door::open(&authority).await;
    for version in BOTH {
        let refused = match connect(&door, eager(&authority, version, None)).await {
            Ok(mut stream) => ends(&mut stream).await,
            Err(error) => alert(&error),
        };
        assert!(matches!(refused, Some(rustls::Error::AlertReceived(_))), "{:?}: {refused:?}", version.version);
    }
    assert_eq!(door.asked(), 0);
}

#[tokio::test]
async fn no_session_is_ever_resumed_however_much_the_client_wants_to() {
    let authority = Authority::new();
    let mut door = Door::open(&authority).await;
    let credentials = authority.credentials("r1", 1);
    for version in BOTH {
        let config = eager(&authority, version, Some(of(&credentials)));
        for _ in 0..2 {
            let mut stream = connect(&door, config.clone()).await.unwrap();
            assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Full), "{:?}", version.version);
            // Tickets of TLS 1.3 would come after the handshake: read something before the next try.
            stream.write_all(&hello("r1").to_frame().to_bytes()).await.unwrap();
            assert!(stream.read_u8().await.is_ok());
            door.next_opened().await;
        }
    }
}

#[tokio::test]
async fn a_renewed_router_shows_its_new_leaf_on_the_next_connection() {
    let authority = Authority::new();
    let mut door = Door::open(&authority).await;
    for generation in [1, 2, 3] {
        let credentials = authority.credentials("r1", generation);
        let _connected = door.dial(&credentials, hello("r1")).await.unwrap();
        let opened = door.next_opened().await;
        let seen = opened.channel.underlays()[0].peer.clone().unwrap();
        assert_eq!(seen.leaf(), &credentials.client().cert[0], "generation {generation}");
    }
}

#[tokio::test]
async fn a_first_frame_of_gigabytes_is_cut_before_it_is_read() {
    let authority = Authority::new();
    let door = Door::open(&authority).await;
    let config = eager(&authority, &rustls::version::TLS13, Some(of(&authority.credentials("r1", 1))));
    for field in [12, 16] {
        let mut stream = connect(&door, config.clone()).await.unwrap();
        let mut bytes = hello("r1").to_frame().to_bytes().to_vec();
        bytes[field..field + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        let _ = stream.write_all(&bytes[..20]).await;
        ends(&mut stream).await;
    }
    assert_eq!(door.asked(), 0);
}

#[tokio::test]
async fn a_first_frame_that_is_no_hello_is_not_answered() {
    let authority = Authority::new();
    let door = Door::open(&authority).await;
    let config = eager(&authority, &rustls::version::TLS13, Some(of(&authority.credentials("r1", 1))));
    let mut stream = connect(&door, config).await.unwrap();
    stream.write_all(&Frame::new(wire::content_type::EXTENSION_REQUEST, "x").to_bytes()).await.unwrap();
    let mut read = Vec::new();
    let _ = stream.read_to_end(&mut read).await;
    assert_eq!((read.len(), door.asked()), (0, 0));
}

#[tokio::test]
async fn an_unknown_frame_version_is_answered_with_those_that_are_known() {
    let authority = Authority::new();
    let door = Door::open(&authority).await;
    let config = eager(&authority, &rustls::version::TLS13, Some(of(&authority.credentials("r1", 1))));
    let mut stream = connect(&door, config).await.unwrap();
    stream.write_all(&[3, 6, 9, 0x0f]).await.unwrap();
    let mut read = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut read)).await.unwrap();
    assert_eq!(read, wire::frame::NEGOTIATION_REPLY);
}

#[tokio::test]
async fn a_hello_that_does_not_come_is_cut() {
    let authority = Authority::new();
    let limits = ListenLimits { hello: Duration::from_millis(50), ..ListenLimits::default() };
    let door = Door::open_with(&authority, Options { limits, ..Options::default() }).await;
    let config = eager(&authority, &rustls::version::TLS13, Some(of(&authority.credentials("r1", 1))));
    let mut stream = connect(&door, config).await.unwrap();
    // One byte short of a hello.
    let bytes = hello("r1").to_frame().to_bytes();
    stream.write_all(&bytes[..bytes.len() - 1]).await.unwrap();
    ends(&mut stream).await;
    assert_eq!(door.asked(), 0);
}

#[tokio::test]
async fn a_handshake_that_does_not_come_is_cut() {
    let authority = Authority::new();
    let limits = ListenLimits { handshake: Duration::from_millis(50), ..ListenLimits::default() };
    let door = Door::open_with(&authority, Options { limits, ..Options::default() }).await;
    let mut silent = TcpStream::connect(door.address).await.unwrap();
    let mut sink = Vec::new();
    timeout(PATIENCE, silent.read_to_end(&mut sink)).await.expect("the connection stays open").ok();
}

#[tokio::test]
async fn half_open_connections_hold_up_the_rest_no_longer_than_their_deadline() {
    let authority = Authority::new();
    let patient = Duration::from_secs(3600);
    let limits = ListenLimits { handshakes_max: 2, handshake: patient, hello: patient, ..ListenLimits::default() };
    let mut door = Door::open_with(&authority, Options { limits, ..Options::default() }).await;
    let credentials = authority.credentials("r1", 1);
    // Both stuck in their hello: together all there may be.
    let config = eager(&authority, &rustls::version::TLS13, Some(of(&credentials)));
    let stuck = connect(&door, config.clone()).await.unwrap();
    let _also_stuck = connect(&door, config).await.unwrap();
    {
        let dialing = door.dial(&credentials, hello("r1"));
        tokio::pin!(dialing);
        let early = timeout(Duration::from_millis(100), &mut dialing).await;
        assert!(early.is_err(), "a third was served: {early:?}");
        drop(stuck);
        dialing.await.unwrap();
    }
    door.next_opened().await;
}

#[tokio::test]
async fn connections_that_say_nothing_give_their_places_to_one_that_does() {
    let authority = Authority::new();
    let patient = Duration::from_secs(3600);
    let limits = ListenLimits { handshakes_max: 1, handshake: patient, hello: patient, ..ListenLimits::default() };
    let mut door = Door::open_with(&authority, Options { limits, ..Options::default() }).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(door.address).await.unwrap());
    }
    let before = turned_away().crowded_out;
    timeout(PATIENCE, door.dial(&authority.credentials("r1", 1), hello("r1"))).await.unwrap().unwrap();
    door.next_opened().await;
    assert!(turned_away().crowded_out > before);
}

#[tokio::test]
async fn slow_hellos_give_their_places_to_one_that_is_not() {
    let authority = Authority::new();
    let patient = Duration::from_secs(3600);
    let limits = ListenLimits { handshakes_max: 2, handshake: patient, hello: patient, ..ListenLimits::default() };
    let mut door = Door::open_with(&authority, Options { limits, ..Options::default() }).await;
    let credentials = authority.credentials("r1", 1);
    let config = eager(&authority, &rustls::version::TLS13, Some(of(&credentials)));
    let mut slow = connect(&door, config.clone()).await.unwrap();
    let _also_slow = connect(&door, config).await.unwrap();
    timeout(PATIENCE, door.dial(&credentials, hello("r1"))).await.unwrap().unwrap();
    door.next_opened().await;
    ends(&mut slow).await;
}

#[tokio::test]
async fn a_protocol_that_nobody_knows_is_refused_in_the_handshake() {
    let authority = Authority::new();
    let service = HttpService::new(hyper::service::service_fn(|_| async {
        Ok::<_, std::convert::Infallible>(http::Response::new(String::new()))
    }));
    for http in [None, Some(service)] {
        let door = Door::open_with(&authority, Options { http, ..Options::default() }).await;
        let trust = ServerTrust::bundle(&authority.bundle()).unwrap();
        let config = tls::client_config(&trust, None, &[b"ziti-link"]).unwrap();
        let error = alert(&connect(&door, config).await.unwrap_err());
        assert_eq!(error, Some(rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)));
    }
}

//! Presented chains and issued answers: what is accepted, and how a refusal is named.

use pki::{
    Certificate, Chain, Expected, IssuedError, KeyKind, PrivateKey, Profile, Sans, Subject, TrustBundle, Usage,
    ValidationError, Which, check_issued, validate_chain,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd,
};
use rustls_pki_types::CertificateDer;

use crate::support::{Ca, HOUR, NOW, every_kind_of_san, key, router, span};

fn leaf_of(ca: &Ca) -> Chain {
    ca.leaf(&key(KeyKind::P256), "r1", &every_kind_of_san(), Profile::Client)
}

fn check(chain: &Chain, bundle: &TrustBundle) -> Result<Certificate, ValidationError> {
    validate_chain(&chain.to_rustls(), bundle, NOW, Usage::Client)
}

#[test]
fn trust_is_bound_to_the_first_certificate() {
    let (ours, foreign) = (Ca::new(KeyKind::P256), Ca::new(KeyKind::P256));
    let (stolen, own) = (leaf_of(&ours), leaf_of(&foreign));
    // What upstream accepted for years: one's own leaf, and somebody else's good one behind it.
    let presented = [own.to_rustls(), stolen.to_rustls()].concat();
    let refused = validate_chain(&presented, &ours.bundle(), NOW, Usage::Any);
    assert!(matches!(refused, Err(ValidationError::Untrusted { .. })), "{refused:?}");
    // Behind a leaf that is good in itself, anything may stand.
    let presented = [stolen.to_rustls(), own.to_rustls()].concat();
    assert_eq!(validate_chain(&presented, &ours.bundle(), NOW, Usage::Any).as_ref(), Ok(stolen.leaf()));
}

#[test]
fn a_foreign_ca_of_the_same_name_is_no_anchor() {
    // Both sets are named alike, with other keys.
    let (ours, foreign) = (Ca::new(KeyKind::P256), Ca::new(KeyKind::P256));
    let refused = check(&leaf_of(&foreign), &ours.bundle());
    assert!(matches!(refused, Err(ValidationError::Untrusted { .. })), "{refused:?}");
    let both = TrustBundle::new([ours.bundle(), foreign.bundle()].iter().flat_map(|one| one.certificates().to_vec()));
    assert!(check(&leaf_of(&foreign), &both.unwrap()).is_ok());
}

#[test]
fn an_intermediate_in_the_bundle_is_an_anchor() {
    let ca = Ca::new(KeyKind::P256);
    let chain = leaf_of(&ca);
    let bundle = TrustBundle::new([ca.signer.certificate().clone()]).unwrap();
    let alone = [chain.leaf().to_rustls()];
    assert!(validate_chain(&alone, &bundle, NOW, Usage::Client).is_ok());
    assert!(validate_chain(&chain.to_rustls(), &bundle, NOW, Usage::Client).is_ok());
    let refused = validate_chain(&alone, &ca.bundle(), NOW, Usage::Client);
    assert!(matches!(refused, Err(ValidationError::Untrusted { .. })), "the intermediate is missing: {refused:?}");
}

#[test]
fn dates_are_judged_at_the_instant_given() {
    let ca = Ca::new(KeyKind::P256);
    let chain = leaf_of(&ca);
    let at = |at| validate_chain(&chain.to_rustls(), &ca.bundle(), at, Usage::Client);
    let (begin, end) = (chain.leaf().not_before(), chain.leaf().not_after());
    assert!(at(begin).is_ok() && at(end).is_ok());
    assert_eq!(at(end.plus(HOUR)), Err(ValidationError::Expired { leaf_not_after: end, at: end.plus(HOUR) }));
    assert_eq!(
        at(begin.minus(HOUR)),
        Err(ValidationError::NotYetValid { leaf_not_before: begin, at: begin.minus(HOUR) })
    );
    assert!(at(lifecycle::UnixTime::from_ms(i64::MIN)).is_err() && at(lifecycle::UnixTime::from_ms(i64::MAX)).is_err());
}

#[test]
fn what_is_no_leaf_is_refused_by_name() {
    let ca = Ca::new(KeyKind::P256);
    let bundle = ca.bundle();
    let present = |der: &[CertificateDer<'_>]| validate_chain(der, &bundle, NOW, Usage::Any).err();
    assert_eq!(present(&[]), Some(ValidationError::NothingPresented));
    assert_eq!(present(&[ca.signer.certificate().to_rustls()]), Some(ValidationError::CaAsLeaf));
    assert_eq!(present(&[ca.root.certificate().to_rustls()]), Some(ValidationError::CaAsLeaf));
    assert!(matches!(present(&[CertificateDer::from(vec![0x30, 0])]), Some(ValidationError::Leaf(_))));
    let many = vec![leaf_of(&ca).leaf().to_rustls(); 17];
    assert_eq!(present(&many), Some(ValidationError::TooMany { found: 17 }));
}

/// A root made by rcgen, with dates that our own issuer would refuse.
fn foreign_root(until: i32) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "Foreign Root");
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(until, 1, 1);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn foreign_leaf(
    root: &CertifiedIssuer<'static, KeyPair>,
    usages: Vec<ExtendedKeyUsagePurpose>,
) -> (Certificate, PrivateKey) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["a.example.com".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "r1");
    params.not_before = date_time_ymd(2021, 1, 1);
    params.not_after = date_time_ymd(2040, 1, 1);
    params.extended_key_usages = usages;
    let leaf = params.signed_by(&key, root).unwrap();
    (Certificate::from_der(leaf.der()).unwrap(), PrivateKey::from_pem(key.serialize_pem().as_bytes()).unwrap())
}

fn bundle_of(root: &CertifiedIssuer<'static, KeyPair>) -> TrustBundle {
    TrustBundle::from_pem(root.pem().as_bytes()).unwrap()
}

#[test]
fn extended_key_usages_bind_only_where_they_are_asked_for() {
    let root = foreign_root(2050);
    let bundle = bundle_of(&root);
    let both = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    let strange = vec![ExtendedKeyUsagePurpose::CodeSigning];
    for (usages, client, server) in [
        (vec![], true, true),
        (both, true, true),
        (vec![ExtendedKeyUsagePurpose::ClientAuth], true, false),
        (vec![ExtendedKeyUsagePurpose::ServerAuth], false, true),
        (strange, false, false),
    ] {
        let (leaf, _) = foreign_leaf(&root, usages);
        let accepts = |usage| match validate_chain(&[leaf.to_rustls()], &bundle, NOW, usage) {
            Ok(_) => true,
            Err(ValidationError::WrongUsage) => false,
            Err(other) => panic!("{other}"),
        };
        assert_eq!((accepts(Usage::Client), accepts(Usage::Server), accepts(Usage::Any)), (client, server, true));
        assert_eq!((leaf.serves_clients(), leaf.serves_servers()), (client, server));
    }
}

#[test]
fn an_expired_anchor_vouches_for_nobody_and_is_named_as_the_cause() {
    let root = foreign_root(2028);
    let (leaf, _) = foreign_leaf(&root, vec![]);
    let refused = validate_chain(&[leaf.to_rustls()], &bundle_of(&root), NOW, Usage::Any);
    assert!(matches!(refused, Err(ValidationError::Expired { .. })), "{refused:?}");
    let earlier = NOW.minus(HOUR * 24 * 365 * 4);
    assert!(validate_chain(&[leaf.to_rustls()], &bundle_of(&root), earlier, Usage::Any).is_ok());
}

/// An answer, and what was asked.
struct Answer {
    ca: Ca,
    client_key: PrivateKey,
    server_key: PrivateKey,
    bundle: TrustBundle,
}

impl Answer {
    fn new() -> Self {
        let ca = Ca::new(KeyKind::P256);
        let bundle = ca.bundle();
        Self { ca, client_key: key(KeyKind::P256), server_key: key(KeyKind::P256), bundle }
    }

    fn client(&self, cn: &str) -> String {
        self.ca.leaf(&self.client_key, cn, &Sans::default(), Profile::Client).to_pem()
    }

    fn server(&self, cn: &str) -> String {
        self.ca.leaf(&self.server_key, cn, &every_kind_of_san(), Profile::Server).to_pem()
    }

    fn check(&self, client: &str, server: &str, hosts: &[&str]) -> Result<pki::Issued, IssuedError> {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let expected = Expected {
            router: &router("r1"),
            client_key: self.client_key.key_id(),
            server_key: self.server_key.key_id(),
            bundle: &self.bundle,
            hosts: &hosts,
        };
        check_issued(client.as_bytes(), server.as_bytes(), &expected)
    }
}

#[test]
fn a_good_answer_passes_and_yields_the_facts() {
    let answer = Answer::new();
    let hosts = ["router.example.com", "x.links.example.com", "127.0.0.1", "fd00::1"];
    let issued = answer.check(&answer.client("r1"), &answer.server("r1"), &hosts).unwrap();
    assert_eq!(issued.client_leaf().key, answer.client_key.key_id());
    assert_eq!(issued.server_leaf().key, answer.server_key.key_id());
    assert_eq!(issued.client_leaf().life(), HOUR * 10);
    assert_eq!(issued.client.intermediates().len(), 1);
}

#[test]
fn every_fault_of_an_answer_has_its_own_name() {
    let answer = Answer::new();
    let (client, server) = (answer.client("r1"), answer.server("r1"));
    let error = |client: &str, server: &str| answer.check(client, server, &[]).unwrap_err();
    for (text, which) in [("", Which::Client), ("garbage", Which::Client)] {
        assert!(matches!(error(text, &server), IssuedError::Unreadable { which: found, .. } if found == which));
    }
    assert!(matches!(error(&client, &server[..900]), IssuedError::Unreadable { which: Which::Server, .. }));
    assert!(matches!(error(&server, &client), IssuedError::WrongKey { which: Which::Client, .. }));
    assert!(matches!(error(&client, &client), IssuedError::WrongKey { which: Which::Server, .. }));
    assert!(matches!(error(&answer.client("r2"), &server), IssuedError::WrongRouter { which: Which::Client, .. }));
    assert!(matches!(error(&client, &answer.server("r2")), IssuedError::WrongRouter { which: Which::Server, .. }));
    for host in ["other.example.com", "127.0.0.2", "a.b.links.example.com"] {
        let refused = answer.check(&client, &server, &[host]);
        assert_eq!(refused, Err(IssuedError::HostNotCovered { host: host.to_owned() }));
    }
    assert_eq!(answer.check(&client, &server, &["no host"]), Err(IssuedError::NotAHost { host: "no host".to_owned() }));
    // Signed by somebody else, over our key and name.
    let foreign = Ca::new(KeyKind::P256).leaf(&answer.client_key, "r1", &Sans::default(), Profile::Client).to_pem();
    let refused = error(&foreign, &server);
    assert!(
        matches!(refused, IssuedError::Chain { which: Which::Client, source: ValidationError::Untrusted { .. } }),
        "{refused:?}"
    );
    // A client certificate in place of the server's.
    let wrong_use = answer.ca.leaf(&answer.server_key, "r1", &Sans::default(), Profile::Client).to_pem();
    let refused = error(&client, &wrong_use);
    assert!(matches!(refused, IssuedError::Chain { which: Which::Server, source: ValidationError::WrongUsage }));
}

#[test]
fn the_clock_has_no_say_about_an_answer() {
    // Leaves that begin and end whenever their issuer lives, and one that outlives its issuer, as stock controllers
    // make them: the router keeps what it is given, and judges dates elsewhere.
    let answer = Answer::new();
    let issue = |from, life, profile, key: &PrivateKey| {
        let subject = Subject::common_name("r1").unwrap();
        answer
            .ca
            .signer
            .issue_for(key.public(), &subject, &Sans::default(), profile, &span(from, life))
            .unwrap()
            .to_pem()
    };
    for from in [NOW.minus(HOUR * 5), NOW.plus(HOUR * 90)] {
        let client = issue(from, HOUR * 2, Profile::Client, &answer.client_key);
        let server = issue(from, HOUR * 2, Profile::Server, &answer.server_key);
        let result = answer.check(&client, &server, &[]);
        // Before its issuer began no chain ever holds.
        assert_eq!(result.is_ok(), from > NOW, "{result:?}");
    }
    let straddling = issue(NOW.minus(HOUR * 2), HOUR * 2, Profile::Client, &answer.client_key);
    answer.check(&straddling, &answer.server("r1"), &[]).unwrap();

    let root = foreign_root(2028);
    let (leaf, leaf_key) = foreign_leaf(&root, vec![]);
    let hosts = ["a.example.com".to_owned()];
    let expected = Expected {
        router: &router("r1"),
        client_key: leaf_key.key_id(),
        server_key: leaf_key.key_id(),
        bundle: &bundle_of(&root),
        hosts: &hosts,
    };
    check_issued(leaf.to_pem().as_bytes(), leaf.to_pem().as_bytes(), &expected).unwrap();
}

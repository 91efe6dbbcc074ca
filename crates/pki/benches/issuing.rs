//! What issuing one renewal costs above the signatures that it cannot do without.
//!
//! Ours: two requests read and checked (self-signature included), two leaves signed, both chains as PEM. The floor: two bare
//! verifications and two bare signatures of the same library over the same bytes. Both alternate in one run; what counts is the
//! median of the ratios of neighbouring rounds. `EXUVIA_BENCH_ROUNDS` sets how many there are.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a bench that cannot go on must stop")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};
use base64::Engine as _;
use lifecycle::UnixTime;
use pki::{Csr, Issuer, KeyKind, PrivateKey, Profile, Sans, Subject, Validity, build_csr, new_intermediate, new_root};

/// Renewals in one round: a few milliseconds, long enough for the clock and short enough to share a machine's mood with its
/// neighbour.
const RENEWALS: u32 = 10;
const ROUNDS: usize = 1001;
const TARGET: f64 = 1.5;
const ROUTER: &str = "Zk3vR1x.2Q";
const HOUR: Duration = Duration::from_secs(3600);

fn main() {
    let rounds = std::env::var("EXUVIA_BENCH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS);
    let now = UnixTime::from_s(1_900_000_000);
    let life = |hours: u32| Validity { not_before: now, not_after: now.plus(HOUR * hours), issuer_ends_soon: None };
    let new_key = || PrivateKey::generate(KeyKind::P256).unwrap();
    let root = new_root("root", new_key(), &life(100)).unwrap();
    let issuer = new_intermediate(&root, "signer", new_key(), &life(90)).unwrap();
    let leaf = life(1);

    // As a router asks: one new key for both leaves, the names of a small configuration.
    let key = new_key();
    let names = Sans {
        dns: vec!["localhost".to_owned(), "router.example.com".to_owned()],
        ips: vec!["127.0.0.1".parse().unwrap()],
        ..Sans::default()
    };
    let subject = Subject::common_name(ROUTER).unwrap();
    let requests = [Sans::default(), names].map(|sans| build_csr(&key, &subject, &sans).unwrap());
    let floor = Floor::new(&issuer, &key, &requests, &leaf);

    let ours = || {
        for (text, profile) in requests.iter().zip([Profile::Client, Profile::Server]) {
            let request = Csr::from_pem(black_box(text).as_bytes()).unwrap();
            let chain = issuer.issue(&request, ROUTER, profile, &leaf).unwrap();
            black_box(chain.to_pem());
        }
    };

    let time = |work: &dyn Fn()| {
        let start = Instant::now();
        (0..RENEWALS).for_each(|_| work());
        start.elapsed().as_secs_f64() * 1e6 / f64::from(RENEWALS)
    };
    // Caches, clock speed, lazily made tables.
    time(&ours);
    time(&|| floor.pay());

    let (mut of_ours, mut of_floor, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        // Who goes first changes, so that neither profits from a machine that gets slower.
        let (ours, floor) = if round % 2 == 0 {
            let ours = time(&ours);
            (ours, time(&|| floor.pay()))
        } else {
            let floor = time(&|| floor.pay());
            (time(&ours), floor)
        };
        of_ours.push(ours);
        of_floor.push(floor);
        ratios.push(ours / floor);
    }
    let (ours, floor, ratio) = (middle(&mut of_ours), middle(&mut of_floor), middle(&mut ratios));
    let (low, high) = (ratios[ratios.len() / 10], ratios[ratios.len() * 9 / 10]);
    println!("issuing one renewal, P-256, one core, medians of {rounds} rounds of {RENEWALS}");
    println!("  two requests checked, two leaves signed, chains as PEM   {ours:8.1} µs");
    println!("  floor: two bare verifications, two bare signatures       {floor:8.1} µs");
    println!("  ratio {ratio:.2} (tenth to nine tenths of the rounds: {low:.2} to {high:.2}); target at most {TARGET}");
    println!("BENCH issuing ours_us={ours:.1} floor_us={floor:.1} ratio={ratio:.3} target={TARGET} rounds={rounds}");
}

/// The same bytes, without anything around them.
struct Floor {
    signer: EcdsaKeyPair,
    asker: Vec<u8>,
    /// What each request signs, and its signature.
    asked: Vec<(Vec<u8>, Vec<u8>)>,
    /// What is signed in each leaf.
    issued: Vec<Vec<u8>>,
    random: SystemRandom,
}

impl Floor {
    fn new(issuer: &Issuer, key: &PrivateKey, requests: &[String; 2], leaf: &Validity) -> Self {
        let pair = |key: &PrivateKey| {
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &key.to_pkcs8().unwrap()).unwrap()
        };
        let (mut asked, mut issued) = (Vec::new(), Vec::new());
        for (text, profile) in requests.iter().zip([Profile::Client, Profile::Server]) {
            asked.push(signed(&der_of(text)));
            let request = Csr::from_pem(text.as_bytes()).unwrap();
            let chain = issuer.issue(&request, ROUTER, profile, leaf).unwrap();
            issued.push(signed(chain.leaf().der()).0);
        }
        let asker = pair(key).public_key().as_ref().to_vec();
        Self { signer: pair(issuer.key()), asker, asked, issued, random: SystemRandom::new() }
    }

    fn pay(&self) {
        for ((message, signature), leaf) in self.asked.iter().zip(&self.issued) {
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.asker)
                .verify(black_box(message), signature)
                .expect("a request that was signed a moment ago");
            black_box(self.signer.sign(&self.random, black_box(leaf)).unwrap());
        }
    }
}

/// Sorts, and picks.
fn middle(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn der_of(pem: &str) -> Vec<u8> {
    let text: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}

/// Of `SEQUENCE { what is signed, algorithm, BIT STRING }`: what is signed, and the signature.
fn signed(der: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (header, whole) = value_of(der);
    let inside = &der[header..header + whole];
    let (header, length) = value_of(inside);
    let message = inside[..header + length].to_vec();
    let rest = &inside[header + length..];
    let (header, length) = value_of(rest);
    let bits = &rest[header + length..];
    let (header, length) = value_of(bits);
    // The first byte counts unused bits.
    (message, bits[header + 1..header + length].to_vec())
}

/// Where the value of the first element begins, and how long it is.
fn value_of(der: &[u8]) -> (usize, usize) {
    match der[1] {
        short @ 0..=0x7f => (2, usize::from(short)),
        long => {
            let digits = usize::from(long & 0x7f);
            (2 + digits, der[2..2 + digits].iter().fold(0, |length, byte| length << 8 | usize::from(*byte)))
        }
    }
}

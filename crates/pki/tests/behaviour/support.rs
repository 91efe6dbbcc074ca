//! What the tests share: a small PKI, and the `openssl` program as a second opinion.

use core::time::Duration;
use std::path::Path;
use std::process::Command;

use lifecycle::{RouterId, UnixTime};
use pki::{
    Chain, Csr, Issuer, KeyKind, PrivateKey, Profile, Sans, Subject, TrustBundle, Validity, build_csr,
    new_intermediate, new_root,
};

/// 2030-01-01.
pub(crate) const NOW: UnixTime = UnixTime::from_s(1_893_456_000);
pub(crate) const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const KINDS: [KeyKind; 4] = [KeyKind::P256, KeyKind::P384, KeyKind::P521, KeyKind::Rsa { bits: 2048 }];

pub(crate) fn key(kind: KeyKind) -> PrivateKey {
    PrivateKey::generate(kind).unwrap()
}

pub(crate) fn span(from: UnixTime, life: Duration) -> Validity {
    Validity { not_before: from, not_after: from.plus(life), issuer_ends_soon: None }
}

/// A root that lives for 1000 hours and an intermediate that lives for 100, both begun an hour ago.
pub(crate) struct Ca {
    pub(crate) root: Issuer,
    pub(crate) signer: Issuer,
}

impl Ca {
    pub(crate) fn new(kind: KeyKind) -> Self {
        let root = new_root("Test Root", key(kind), &span(NOW.minus(HOUR), HOUR * 1000)).unwrap();
        let signer = new_intermediate(&root, "Test Signer", key(kind), &span(NOW.minus(HOUR), HOUR * 100)).unwrap();
        Self { root, signer }
    }

    pub(crate) fn bundle(&self) -> TrustBundle {
        TrustBundle::new([self.root.certificate().clone()]).unwrap()
    }

    /// A leaf for `key`, named `cn`, from an hour ago for ten hours.
    pub(crate) fn leaf(&self, key: &PrivateKey, cn: &str, sans: &Sans, profile: Profile) -> Chain {
        let text = build_csr(key, &Subject::common_name(cn).unwrap(), sans).unwrap();
        let csr = Csr::from_pem(text.as_bytes()).unwrap();
        self.signer.issue(&csr, cn, profile, &span(NOW.minus(HOUR), HOUR * 10)).unwrap()
    }
}

pub(crate) fn router(id: &str) -> RouterId {
    RouterId::new(id)
}

pub(crate) fn every_kind_of_san() -> Sans {
    Sans {
        dns: vec!["router.example.com".to_owned(), "*.links.example.com".to_owned()],
        ips: vec!["127.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
        uris: vec!["spiffe://example.com/router/r1".to_owned()],
        emails: vec!["ops@example.com".to_owned()],
    }
}

/// Runs `openssl` in `folder` and returns what it printed. `None`, with a printed note, where there is no such program.
pub(crate) fn openssl(folder: &Path, arguments: &[&str]) -> Option<Result<String, String>> {
    let output = match Command::new("openssl").args(arguments).current_dir(folder).output() {
        Ok(output) => output,
        Err(error) => {
            println!("skipped: the second opinion of `openssl` cannot be had ({error})");
            return None;
        }
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    Some(if output.status.success() { Ok(text) } else { Err(text) })
}

/// Puts `text` into `folder` as `name`.
pub(crate) fn put(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).unwrap();
}

//! Keys of a stock network: one root, and below it a signing CA for each controller.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use lifecycle::UnixTime;
use pki::{Issuer, KeyKind, PrivateKey, Profile, Sans, Subject, Validity};

const DAY: Duration = Duration::from_secs(86_400);
const TRUST_DOMAIN: &str = "exuvia.test";

/// The root of a network.
pub(super) fn root() -> Result<Issuer> {
    let key = PrivateKey::generate(KeyKind::P256).context("make a key")?;
    pki::new_root("interop root", key, &lasting(3_650)?).context("make a root")
}

/// Everything that one controller needs, in this folder, under the names that `exuvia controller init` gives.
pub(super) fn lay_down(root: &Issuer, id: &str, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let (signer_key, key) = (PrivateKey::generate(KeyKind::P256)?, PrivateKey::generate(KeyKind::P256)?);
    let (signer_pem, key_pem) = (signer_key.to_pem()?, key.to_pem()?);
    let signer = pki::new_intermediate(root, &format!("{id} signer"), signer_key, &lasting(3_000)?)?;
    let loopback: [IpAddr; 2] = [[127, 0, 0, 1].into(), IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)];
    let sans = Sans {
        dns: vec!["localhost".to_owned()],
        ips: loopback.to_vec(),
        // Members of a cluster know one another by this.
        uris: vec![format!("spiffe://{TRUST_DOMAIN}/controller/{id}")],
        emails: Vec::new(),
    };
    let subject = Subject::common_name(id)?;
    let issue = |profile| signer.issue_for(key.public(), &subject, &sans, profile, &lasting(2_000)?).context("sign");
    let (client, server) = (issue(Profile::Client)?, issue(Profile::Server)?);
    let write = |name: &str, text: &[u8]| {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write `{}`", path.display()))
    };
    write("key.pem", key_pem.as_bytes())?;
    write("client.pem", client.to_pem().as_bytes())?;
    write("server.pem", server.to_pem().as_bytes())?;
    write("bundle.pem", root.certificate().to_pem().as_bytes())?;
    write("signer.pem", signer.certificate().to_pem().as_bytes())?;
    write("signer.key.pem", signer_pem.as_bytes())?;
    Ok(())
}

fn lasting(days: u32) -> Result<Validity> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("read the clock")?;
    let now = UnixTime::from_ms(i64::try_from(now.as_millis())?);
    Ok(Validity { not_before: now.minus(DAY), not_after: now.plus(DAY * days), issuer_ends_soon: None })
}

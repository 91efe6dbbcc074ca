//! Files that other programs, operators and broken disks write.

use aws_lc_rs::digest::{SHA256, digest};
use controller::config::ControllerConfig;
use router::config::{EndpointsFile, RouterConfig};
use store::format::{decode_manifest, encode_manifest};

/// Length and checksum lie here, as `FORMAT.md` says.
const LENGTH_AT: usize = 12;
const CHECKSUM_BYTES: usize = 32;

pub(super) fn manifest(data: &[u8]) {
    manifest_again(data);
    // The same with a length and a checksum that are right: what is behind them is reached by no chance.
    let mut mended = data.to_vec();
    let Some(body) = mended.len().checked_sub(CHECKSUM_BYTES).filter(|body| *body >= LENGTH_AT + 4) else { return };
    let length = u32::try_from(mended.len()).unwrap_or(u32::MAX).to_le_bytes();
    mended.splice(LENGTH_AT..LENGTH_AT + 4, length);
    mended.truncate(body);
    let checksum = digest(&SHA256, &mended);
    mended.extend_from_slice(checksum.as_ref());
    manifest_again(&mended);
}

fn manifest_again(bytes: &[u8]) {
    if let Ok(manifest) = decode_manifest(bytes) {
        let written = encode_manifest(&manifest);
        assert_eq!(decode_manifest(&written), Ok(manifest), "a manifest changes when it is written and read again");
        assert_eq!(written, bytes, "two different files are one manifest");
    }
}

/// Some variables are set, one to something unpleasant.
fn env(name: &str) -> Option<String> {
    match name {
        "HOME" => Some("/root".to_owned()),
        "EVIL" => Some("a: [b, *c]\n\"${HOME}".to_owned()),
        _ => None,
    }
}

pub(super) fn router_yml(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match RouterConfig::load(&text, "router.yml", &env) {
        Ok((config, warnings)) => {
            let _shown = format!("{config:?}{warnings}");
            let again = RouterConfig::load(&text, "router.yml", &env);
            let again = again.map(|(config, _)| format!("{config:?}"));
            assert_eq!(again, Ok(format!("{config:?}")), "one file is two configurations");
        }
        Err(errors) => assert!(!format!("{errors}").is_empty() && !errors.problems().is_empty()),
    }
}

pub(super) fn controller_yml(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match ControllerConfig::load(&text, "controller.yml", &env) {
        Ok((config, warnings)) => {
            let _shown = format!("{config:?}{warnings}");
            let again = ControllerConfig::load(&text, "controller.yml", &env);
            let again = again.map(|(config, _)| format!("{config:?}"));
            assert_eq!(again, Ok(format!("{config:?}")), "one file is two configurations");
        }
        Err(errors) => assert!(!format!("{errors}").is_empty() && !errors.problems().is_empty()),
    }
}

pub(super) fn endpoints_yml(data: &[u8]) {
    match EndpointsFile::parse(data) {
        Ok(file) => {
            let again = EndpointsFile::parse(file.render().as_bytes());
            assert_eq!(again.map(|again| again.addresses()), Ok(file.addresses()), "addresses change");
        }
        Err(damage) => assert!(!damage.to_string().is_empty()),
    }
}

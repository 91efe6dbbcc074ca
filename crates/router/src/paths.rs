//! The configured paths: copies of the served generation, and what others put there.
//!
//! What to do about them is [`store::import::decide`]'s business; here it is done.

use std::path::{Path, PathBuf};

use ::store::disk::RealDisk;
use ::store::generation::{Generation, GenerationFiles};
use ::store::identity::LeafFacts;
use ::store::import::{Judgement, Situation, Verdict, Watch, decide};
use ::store::projection::{Projection, Seen, Slot};
use lifecycle::manifest::{Manifest, ProjectionRecord};
use lifecycle::{GenerationNumber, RouterId};
use net::credentials::Credentials;
use pki::{Chain, Usage, validate_chain};
use zeroize::Zeroizing;

use crate::clock;
use crate::commit::{Custody, Whole, chain_text, router_of};
use crate::config::{IdentityPaths, IdentitySource, InlinePem};

/// What a look at the configured paths led to.
#[derive(Debug)]
pub enum Finding {
    /// Nothing to do.
    Nothing,
    /// They were written.
    Projected(ProjectionRecord),
    /// Somebody put another identity of this router there.
    Foreign(Box<GenerationFiles>),
}

/// The paths that router.yml names.
#[derive(Debug)]
pub struct ConfiguredPaths {
    projection: Projection,
    is_projected: bool,
    is_managed: bool,
    watch: Watch,
    /// What was seen when nothing was to be done, so that the files are not compared again.
    seen: Option<Vec<Stamp>>,
    paths: Vec<PathBuf>,
    /// Parts that are written in the configuration itself: read, never written.
    inline: Vec<(Slot, InlinePem)>,
    /// Said once each time it changes.
    told: Option<String>,
}

/// Length, inode and last change of a file; `None` where there is none.
type Stamp = Option<(u64, u64, i64, i64)>;

impl ConfiguredPaths {
    /// `is_projected` = copies are written there. `is_managed` = somebody else replaces them as a whole.
    pub fn new(identity: &IdentityPaths, is_projected: bool, is_managed: bool) -> Self {
        let slots = [
            (Slot::Key, Some(&identity.key)),
            (Slot::ServerKey, identity.server_key.as_ref()),
            (Slot::Cert, Some(&identity.cert)),
            (Slot::ServerCert, Some(&identity.server_cert)),
            (Slot::Ca, Some(&identity.ca)),
        ];
        let mut targets = Vec::new();
        let mut inline = Vec::new();
        for (slot, source) in slots {
            match source {
                Some(IdentitySource::Path(path)) => targets.push((slot, path.clone())),
                Some(IdentitySource::Inline(pem)) => inline.push((slot, pem.clone())),
                Some(IdentitySource::Engine { .. }) | None => {}
            }
        }
        let paths = targets.iter().map(|(_, path)| path.clone()).collect();
        let is_projected = is_projected && !is_managed;
        let projection = Projection::new(targets);
        Self { projection, is_projected, is_managed, watch: Watch::default(), seen: None, paths, inline, told: None }
    }

    /// Reads the identity that lies there, whole or not at all; for a store that has none yet.
    ///
    /// # Errors
    /// Why it is of no use, for people.
    pub fn read(&self, custody: &mut Custody) -> Result<GenerationFiles, String> {
        let mut observed = self.projection.read(custody.store_mut().disk_mut());
        for (slot, pem) in &self.inline {
            observed.files.push((*slot, Seen::Content(Zeroizing::new(pem.as_str().as_bytes().to_vec()))));
        }
        let empty = Manifest::default();
        let situation = Situation {
            projection: &self.projection,
            observed: &observed,
            manifest: &empty,
            generations: &[],
            wanted: None,
        };
        let verdict = decide(clock::now().uptime, &situation, &mut Watch::default(), |files| {
            match Whole::new(GenerationNumber(1), files.clone()) {
                Ok(whole) => Judgement::Acceptable(facts(&whole.credentials)),
                Err(error) => Judgement::NotForUs(chain_text(&error)),
            }
        });
        match verdict {
            Verdict::Import(import) => Ok(import.0),
            Verdict::Refused(why) => Err(why),
            Verdict::Right | Verdict::Project { .. } | Verdict::Wait(_) | Verdict::ManagedElsewhere => {
                Err("the identity files are not complete".to_owned())
            }
        }
    }

    /// What should lie there has changed, so the files are compared at the next look even if nobody touched them.
    pub fn look_again(&mut self) {
        self.seen = None;
    }

    /// Is exactly this generation there?
    pub fn hold(&self, disk: &mut RealDisk, files: &GenerationFiles) -> bool {
        self.projection.read(disk).digest() == Some(self.projection.digest(files))
    }

    /// Looks whether anything changed there, and mends or reports it.
    pub fn look(&mut self, custody: &mut Custody, manifest: &Manifest, live: GenerationNumber) -> Finding {
        let stamps: Vec<Stamp> = self.paths.iter().map(|path| stamp(path)).collect();
        if self.seen.as_ref() == Some(&stamps) {
            return Finding::Nothing;
        }
        let observed = self.projection.read(custody.store_mut().disk_mut());
        let generations: Vec<Generation> = manifest
            .candidates
            .iter()
            .filter_map(|candidate| {
                let files = custody.whole(candidate.number)?.files.as_ref().clone();
                Some(Generation { number: candidate.number, digest: candidate.digest, files })
            })
            .collect();
        let situation = Situation {
            projection: &self.projection,
            observed: &observed,
            manifest,
            generations: &generations,
            wanted: Some(live),
        };
        let served = custody.whole(live).map(|whole| whole.credentials.clone());
        let router = custody.whole(live).and_then(|whole| router_of(&whole.files.client));
        let is_managed = self.is_managed;
        let verdict = decide(clock::now().uptime, &situation, &mut self.watch, |files| {
            judge(files, served.as_deref().filter(|_| !is_managed), router.as_ref())
        });
        match verdict {
            Verdict::Right => {
                self.seen = Some(stamps);
                self.told = None;
                Finding::Nothing
            }
            Verdict::Wait(_) => Finding::Nothing,
            Verdict::Project { .. } if !self.is_projected => {
                self.seen = Some(stamps);
                Finding::Nothing
            }
            Verdict::Project { is_foreign } => self.project(custody, manifest, live, is_foreign),
            Verdict::Import(import) => Finding::Foreign(Box::new(import.0)),
            Verdict::Refused(why) => {
                self.tell(format!("the files at the configured paths are left alone: {why}"));
                self.seen = Some(stamps);
                Finding::Nothing
            }
            Verdict::ManagedElsewhere => {
                self.tell(
                    "the identity files are managed elsewhere: somebody keeps replacing them, so they are left alone"
                        .to_owned(),
                );
                self.seen = Some(stamps);
                Finding::Nothing
            }
        }
    }

    /// Copies a generation there, where copies are wanted. Failing at it harms nothing; it is tried again.
    pub fn project(
        &mut self,
        custody: &mut Custody,
        manifest: &Manifest,
        number: GenerationNumber,
        is_foreign: bool,
    ) -> Finding {
        let Some(whole) = custody.whole(number).cloned().filter(|_| self.is_projected) else { return Finding::Nothing };
        self.seen = None;
        match self.projection.write(custody.store_mut().disk_mut(), &whole.files) {
            Ok(projected) => {
                for slot in &projected.narrowed {
                    tracing::warn!(
                        ?slot,
                        "a projected file could not get its old owner and is readable by fewer than before"
                    );
                }
                Finding::Projected(projected.record(number, manifest.projection.as_ref(), is_foreign))
            }
            Err(error) => {
                self.tell(format!(
                    "generation {number} is not at the configured paths: {}; {}",
                    chain_text(&error),
                    error.hint()
                ));
                Finding::Nothing
            }
        }
    }

    /// Removes temporaries that a crash left beside the targets.
    pub fn sweep(&self, custody: &mut Custody) {
        if self.is_projected
            && let Err(error) = self.projection.sweep(custody.store_mut().disk_mut())
        {
            tracing::debug!(cause = %chain_text(&error), "leftovers beside the configured paths stay");
        }
    }

    fn tell(&mut self, text: String) {
        if self.told.as_ref() != Some(&text) {
            tracing::warn!(target: "exuvia::router", "{text}");
            self.told = Some(text);
        }
    }
}

fn facts(credentials: &Credentials) -> LeafFacts {
    LeafFacts { client: *credentials.client_leaf(), server: *credentials.server_leaf() }
}

/// Do these files make an identity of this router, under the bundle that we trust?
fn judge(files: &GenerationFiles, served: Option<&Credentials>, router: Option<&RouterId>) -> Judgement {
    let whole = match Whole::new(GenerationNumber(0), files.clone()) {
        Ok(whole) => whole,
        Err(crate::commit::UnusableFiles::Key(_) | crate::commit::UnusableFiles::Chain(_)) => {
            return Judgement::Unreadable;
        }
        Err(error @ crate::commit::UnusableFiles::Credentials(_)) => return Judgement::NotForUs(chain_text(&error)),
    };
    let found = router_of(&files.client);
    if found.as_ref() != router {
        let found = found.map_or_else(|| "nobody".to_owned(), |id| id.to_string());
        return Judgement::NotForUs(format!("their client leaf is for `{found}`"));
    }
    if let (Some(served), Ok(chain)) = (served, Chain::from_pem(&files.client)) {
        let leaf = chain.leaf();
        let presented = chain.to_rustls();
        let holds = |at| validate_chain(&presented, served.bundle(), at, Usage::Any).is_ok();
        if !holds(leaf.not_before()) && !holds(leaf.not_after()) {
            return Judgement::NotForUs("their client leaf does not chain to our trust bundle".to_owned());
        }
    }
    Judgement::Acceptable(facts(&whole.credentials))
}

fn stamp(path: &Path) -> Stamp {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.len(), metadata.ino(), metadata.mtime(), metadata.mtime_nsec()))
}

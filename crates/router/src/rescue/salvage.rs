//! Keys and leaves, put together again.

use std::path::{Path, PathBuf};

use lifecycle::rescue::{Found, Place};
use lifecycle::{Fingerprint, GenerationNumber, KeyId, Leaf, RouterId, UnixTime};
use pki::{Certificate, Chain, Sha1Fingerprint, TrustBundle, Usage, validate_chain};
use store::generation::{GenerationFiles, Keys, PrivatePem};
use store::projection::Slot;

use super::wreck::{Remark, Wreck};
use crate::commit::{Whole, router_of};

/// One identity that could be used: a client leaf, its key, and the rest.
#[derive(Clone, Debug)]
pub struct Set {
    /// As a generation has it. Without a server leaf of its own the client chain stands in.
    pub files: GenerationFiles,
    /// The client leaf.
    pub client: Leaf,
    /// The same as OpenZiti names it.
    pub client_sha1: Sha1Fingerprint,
    /// The server leaf, if there is one.
    pub server: Option<Leaf>,
    /// Its number in the store.
    pub stored: Option<GenerationNumber>,
    /// Where the router would find it at its next start.
    pub is_in_use: bool,
    /// The files that it was put together from.
    pub from: Vec<PathBuf>,
    chain: Chain,
}

/// Everything of one router that can be used, and what cannot.
#[derive(Debug)]
pub struct Salvage {
    /// What can be used: what is stored first, oldest first.
    pub sets: Vec<Set>,
    /// What is of no use as it is.
    pub remarks: Vec<Remark>,
}

impl Set {
    /// Where it lies.
    pub fn place(&self) -> Place {
        match (self.is_in_use, self.stored) {
            (true, _) => Place::InUse,
            (false, Some(number)) => Place::Stored(number),
            (false, None) => Place::Aside,
        }
    }

    /// What a plan wants to know of it. `signer` = the CAs of the controller.
    pub fn facts(&self, is_admitted: bool, signer: &TrustBundle) -> Found {
        let presented = self.chain.to_rustls();
        // Its dates are another question.
        let holds = |at| validate_chain(&presented, signer, at, Usage::Any).is_ok();
        Found {
            client: self.client,
            server: self.server,
            place: self.place(),
            is_admitted,
            is_from_signer: holds(self.client.not_before) || holds(self.client.not_after),
        }
    }

    /// The client chain as PEM.
    pub fn client_pem(&self) -> String {
        self.chain.to_pem()
    }
}

impl Wreck {
    /// Puts together what belongs together. `cas` are believed by the operator, and stand in where the router's own bundle is lost.
    pub fn salvage(&self, router: &RouterId, cas: &TrustBundle, now: UnixTime) -> Salvage {
        let mut salvage = Salvage { sets: Vec::new(), remarks: self.remarks.clone() };
        for stored in &self.stored {
            if router_of(&stored.files.client).as_ref() == Some(router) {
                let from = vec![PathBuf::from(format!("generation {}", stored.number))];
                salvage.sets.extend(set_of(&stored.files, Some(stored.number), from));
            }
        }
        let configured = self.configured(router);
        let in_use = configured.as_ref().and_then(|files| set_of(files, None, self.configured_paths()));
        for set in &mut salvage.sets {
            let is_there = in_use.as_ref().is_some_and(|there| there.client.fingerprint == set.client.fingerprint);
            set.is_in_use = is_there || !self.is_projected;
        }
        if let Some(mut there) = in_use
            && !salvage.holds(there.client.fingerprint)
        {
            there.is_in_use = self.is_projected;
            salvage.sets.push(there);
        }
        for (piece, leaf) in self.client_leaves(router) {
            if !salvage.holds(leaf.fingerprint()) {
                match self.assemble(leaf, piece, (cas, cas.certificates()), now) {
                    Ok(set) => salvage.sets.push(set),
                    Err(remark) => salvage.remarks.push(remark),
                }
            }
        }
        salvage
    }

    /// The set of a leaf that is in no file here, and whose key is.
    ///
    /// # Errors
    /// What is missing.
    pub fn assemble_kept(&self, pem: &str, cas: &TrustBundle, now: UnixTime) -> Result<Set, Remark> {
        let at = PathBuf::from("the controller's copy");
        let chain = Chain::from_pem(pem.as_bytes());
        let chain = chain.map_err(|error| Remark { path: at.clone(), text: error.to_string() })?;
        // OpenZiti keeps the leaf alone, Exuvia its chain; neither may be left on this disk.
        let issuers = [chain.intermediates(), cas.certificates()].concat();
        self.assemble(chain.leaf(), &at, (cas, &issuers), now)
    }

    /// The private keys that are here.
    pub fn keys(&self) -> impl Iterator<Item = KeyId> + '_ {
        self.pieces.iter().flat_map(|piece| piece.keys.iter().map(|key| key.id))
    }

    fn configured_paths(&self) -> Vec<PathBuf> {
        self.pieces.iter().filter(|piece| piece.slot.is_some()).map(|piece| piece.path.clone()).collect()
    }

    /// Client leaves of this router, each with the file that it is in.
    fn client_leaves(&self, router: &RouterId) -> Vec<(&PathBuf, &Certificate)> {
        let is_for_servers = |slot: Option<Slot>| matches!(slot, Some(Slot::ServerCert | Slot::Ca));
        self.leaves(router)
            .filter(|(_, slot, leaf)| !is_for_servers(*slot) && leaf.serves_clients())
            .map(|(path, _, leaf)| (path, leaf))
            .collect()
    }

    fn leaves(&self, router: &RouterId) -> impl Iterator<Item = (&PathBuf, Option<Slot>, &Certificate)> {
        let all = self
            .pieces
            .iter()
            .flat_map(|piece| piece.certificates.iter().map(move |certificate| (&piece.path, piece.slot, certificate)));
        let id = router.as_str().to_owned();
        all.filter(move |(_, _, leaf)| !leaf.is_ca() && leaf.cn() == Some(id.as_str()))
    }

    fn key(&self, id: KeyId) -> Option<(&PathBuf, &PrivatePem)> {
        let mut all = self.pieces.iter().flat_map(|piece| piece.keys.iter().map(move |key| (&piece.path, key)));
        all.find(|(_, key)| key.id == id).map(|(path, key)| (path, &key.pem))
    }

    fn assemble(
        &self,
        leaf: &Certificate,
        from: &Path,
        (cas, issuers): (&TrustBundle, &[Certificate]),
        now: UnixTime,
    ) -> Result<Set, Remark> {
        let without = |text: &str| Remark { path: from.to_owned(), text: text.to_owned() };
        let (key_path, key) = self
            .key(leaf.key_id())
            .ok_or_else(|| without("holds a client leaf of this router whose private key is nowhere"))?;
        let (_, client) =
            self.chain_of(leaf, issuers).ok_or_else(|| without("holds a client leaf whose chain is too long"))?;
        let mut paths = vec![from.to_owned(), key_path.clone()];
        let router = RouterId::new(leaf.cn().unwrap_or_default());
        let (server, server_key) = match self.server_for(leaf, &router, issuers, now) {
            Some((path, server, key)) => {
                paths.push(path);
                (server, key)
            }
            None => (client.clone(), self.has_server_key.then(|| key.clone())),
        };
        let bundle = self.bundle_text().map_or_else(|| cas.to_pem().into_bytes(), <[u8]>::to_vec);
        let mut files = GenerationFiles { keys: Keys { key: key.clone(), server_key }, client, server, bundle };
        paths.sort();
        paths.dedup();
        set_of(&files, None, paths.clone())
            .or_else(|| {
                // A bundle of its own that its leaves do not lead to: an old one, or somebody else's.
                files.bundle = cas.to_pem().into_bytes();
                set_of(&files, None, paths)
            })
            .ok_or_else(|| without("holds a client leaf of this router that leads to no CA that is trusted here"))
    }

    /// The best server leaf for this client leaf: good now, and for the longest.
    fn server_for(
        &self,
        client: &Certificate,
        router: &RouterId,
        issuers: &[Certificate],
        now: UnixTime,
    ) -> Option<(PathBuf, Vec<u8>, Option<PrivatePem>)> {
        let fits = |leaf: &Certificate| match self.has_server_key {
            false => leaf.key_id() == client.key_id(),
            true => self.key(leaf.key_id()).is_some(),
        };
        let servers = self.leaves(router).filter(|(_, slot, leaf)| {
            leaf.serves_servers()
                && leaf.fingerprint() != client.fingerprint()
                && *slot != Some(Slot::Cert)
                && fits(leaf)
        });
        let best = servers.max_by_key(|(_, slot, leaf)| {
            let is_good = leaf.not_before() <= now && now <= leaf.not_after();
            (is_good, *slot == Some(Slot::ServerCert), leaf.not_after())
        });
        let (path, _, leaf) = best?;
        let (_, pem) = self.chain_of(leaf, issuers)?;
        let own = if self.has_server_key { Some(self.key(leaf.key_id())?.1.clone()) } else { None };
        Some((path.clone(), pem, own))
    }
}

impl Salvage {
    fn holds(&self, fingerprint: Fingerprint) -> bool {
        self.sets.iter().any(|set| set.client.fingerprint == fingerprint)
    }
}

fn set_of(files: &GenerationFiles, stored: Option<GenerationNumber>, from: Vec<PathBuf>) -> Option<Set> {
    let whole = Whole::new(stored.unwrap_or(GenerationNumber(0)), files.clone()).ok()?;
    let chain = Chain::from_pem(&files.client).ok()?;
    let (client, server) = (*whole.credentials.client_leaf(), *whole.credentials.server_leaf());
    Some(Set {
        files: files.clone(),
        client,
        client_sha1: chain.leaf().fingerprint_sha1(),
        server: Some(server).filter(|server| server.fingerprint != client.fingerprint),
        stored,
        is_in_use: false,
        from,
        chain,
    })
}

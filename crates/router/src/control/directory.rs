//! Which controllers there are and where they listen: from the endpoints file, the configuration, and what controllers say.
//!
//! Rules of `openziti/ziti:router/handler_ctrl/update_ctrl_addresses.go` and `openziti/ziti:router/handler_ctrl/settings.go`,
//! except that a controller whose id was never learnt is redialed all the same, and that no word of a peer makes us forget where we were
//! admitted: whoever a list leaves out stays until a controller on the list has admitted us, and while nobody is connected the configured
//! addresses are tried too.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ::config::{Address, Scheme};
use lifecycle::ControllerId;
use net::connect::Endpoint;
use wire::control::UpdateCtrlAddresses;

use super::endpoint;
use crate::config::{ControllerEndpoints, EndpointsFile, EndpointsSource, starting_endpoints};

/// One controller, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What the machine calls it: its id if that was known at first, else its address. Stays the same as long as it is listed.
    pub contact: ControllerId,
    /// The id that it announced or that the endpoints file has.
    pub id: Option<String>,
    /// Where it listens, with the groups of each address.
    pub addresses: Vec<(Address, Vec<String>)>,
    /// Where it listened before it or another one said otherwise. Tried last, until it has admitted us at one of its addresses.
    pub former: Vec<Address>,
    /// From the endpoints file, from the configuration, or one that has admitted us: no list makes us forget it at once.
    is_trusted: bool,
    /// The newest list leaves it out: it goes as soon as a controller on the list has admitted us.
    is_left_out: bool,
}

impl Entry {
    /// Everywhere that it may listen, in the order in which that is tried.
    pub fn dialable(&self) -> impl Iterator<Item = &Address> {
        self.addresses.iter().map(|(address, _)| address).chain(&self.former)
    }

    /// Other addresses take the place of those that it has, which are not forgotten yet.
    fn moves_to(&mut self, addresses: Vec<(Address, Vec<String>)>) {
        let is_listed = |address: &Address| addresses.iter().any(|(listed, _)| listed == address);
        let before = std::mem::take(&mut self.addresses).into_iter().map(|(address, _)| address);
        let mut former: Vec<Address> = Vec::new();
        for address in before.chain(std::mem::take(&mut self.former)) {
            if !is_listed(&address) && !former.contains(&address) && former.len() < FORMER_MAX {
                former.push(address);
            }
        }
        if self.is_trusted {
            self.former = former;
        }
        self.addresses = addresses;
    }
}

/// Most addresses that are kept of a controller after it was said to listen elsewhere.
const FORMER_MAX: usize = 8;

/// Greater indices are no positions in a log: nobody has counted so far. Such a list is read, and its index is not remembered.
const INDEX_MAX: u64 = i64::MAX as u64;

/// All controllers.
#[derive(Clone, Debug)]
pub struct Directory {
    entries: Vec<Entry>,
    /// Of the newest list, and whose word that is. It counts while that controller is connected.
    index: Option<(ControllerId, u64)>,
    leader: Option<(ControllerId, u64)>,
    configured: Vec<Address>,
    file: PathBuf,
}

/// What a list of addresses changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// Nothing: it is not newer, or says nothing new.
    Nothing,
    /// It was empty: ask the sender again.
    Empty,
    /// The list is different now.
    Changed {
        /// Only additions were taken, because the sender does not lead and would have dropped a connected controller.
        asks_leader: Option<ControllerId>,
    },
}

impl Directory {
    /// From the endpoints file if it is intact, else from the configuration.
    ///
    /// # Errors
    /// When the file is there and cannot be read: that is not the same as "no file".
    pub fn open(file: &Path, configured: &[Address]) -> io::Result<(Self, EndpointsSource)> {
        let content = match fs::read(file) {
            Ok(content) => Some(content),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let starting = starting_endpoints(configured, content.as_deref());
        let mut entries = Vec::new();
        let parsed = content.as_deref().and_then(|content| EndpointsFile::parse(content).ok());
        for controller in parsed.map(|file| file.controllers).unwrap_or_default() {
            entries.push(Entry {
                contact: ControllerId::new(controller.id.clone()),
                id: Some(controller.id),
                addresses: controller.endpoints,
                former: Vec::new(),
                is_trusted: true,
                is_left_out: false,
            });
        }
        let (configured, file) = (configured.to_vec(), file.to_owned());
        let mut directory = Self { entries, index: None, leader: None, configured, file };
        for address in starting.addresses {
            if directory.by_address(&address).is_none() {
                directory.entries.push(nameless(address));
            }
        }
        Ok((directory, starting.source))
    }

    /// What the machine calls them.
    pub fn contacts(&self) -> Vec<ControllerId> {
        self.entries.iter().map(|entry| entry.contact.clone()).collect()
    }

    /// Everybody.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// One of them.
    pub fn entry(&self, contact: &ControllerId) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.contact == *contact)
    }

    fn by_address(&self, address: &Address) -> Option<usize> {
        self.entries.iter().position(|entry| entry.dialable().any(|known| known == address))
    }

    /// A controller has admitted us, at this address. Whoever the newest list leaves out may go now if this one is on it. `true` when the list
    /// of controllers is another one now.
    pub fn admitted(&mut self, contact: &ControllerId, at: Option<&Endpoint>) -> bool {
        let before = self.entries.clone();
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.contact == *contact) else { return false };
        entry.is_trusted = true;
        if at.is_some_and(|at| entry.addresses.iter().any(|(listed, _)| endpoint(listed) == *at)) {
            entry.former.clear();
        }
        if !entry.is_left_out {
            self.entries.retain(|entry| !entry.is_left_out);
        }
        self.entries != before
    }

    /// A controller's channel closed: what it said of lists and leaders may be contradicted by whoever is connected.
    pub fn closed(&mut self, contact: &ControllerId) {
        self.index.take_if(|(of, _)| of == contact);
        self.leader.take_if(|(of, _)| of == contact);
    }

    /// Nobody is connected and a dial failed: the configured addresses are tried too, until somebody has admitted us. `true` when there were
    /// any others.
    pub fn fall_back(&mut self) -> bool {
        let unknown: Vec<Address> =
            self.configured.iter().filter(|address| self.by_address(address).is_none()).cloned().collect();
        let is_news = !unknown.is_empty();
        for address in unknown {
            self.entries.push(Entry { is_left_out: true, ..nameless(address) });
        }
        is_news
    }

    /// A controller told its id. If another entry has that id already, the two are one: returns the contact to drop.
    pub fn announced(&mut self, contact: &ControllerId, id: &str) -> Option<ControllerId> {
        let at = self.entries.iter().position(|entry| entry.contact == *contact)?;
        let same = self.entries.iter().position(|entry| entry.contact != *contact && entry.id.as_deref() == Some(id));
        let Some(same) = same else {
            if let Some(entry) = self.entries.get_mut(at) {
                entry.id = Some(id.to_owned());
            }
            return None;
        };
        let gone = self.entries.remove(at);
        let same = if same > at { same - 1 } else { same };
        if let Some(kept) = self.entries.get_mut(same) {
            for (address, groups) in gone.addresses {
                if !kept.addresses.iter().any(|(known, _)| *known == address) {
                    kept.addresses.push((address, groups));
                }
            }
            kept.is_trusted |= gone.is_trusted;
            kept.is_left_out &= gone.is_left_out;
        }
        Some(gone.contact)
    }

    /// A controller says where all controllers are.
    pub fn apply(
        &mut self,
        sender: &ControllerId,
        update: &UpdateCtrlAddresses,
        is_connected: impl Fn(&ControllerId) -> bool,
    ) -> Applied {
        if self.index.as_ref().is_some_and(|(of, last)| update.index <= *last && (of == sender || is_connected(of))) {
            return Applied::Nothing;
        }
        if update.is_leader && update.index <= INDEX_MAX {
            self.leader = Some((sender.clone(), update.index));
        }
        let listed: Vec<ControllerEndpoints> = update.controllers.iter().filter_map(usable).collect();
        if listed.is_empty() {
            return Applied::Empty;
        }
        let before = self.entries.clone();
        let mut kept = Vec::new();
        for controller in listed {
            let known = self.entries.iter().position(|entry| {
                entry.id.as_deref() == Some(&controller.id)
                    || (entry.id.is_none()
                        && entry
                            .addresses
                            .iter()
                            .any(|(known, _)| controller.endpoints.iter().any(|(a, _)| a == known)))
            });
            let mut entry = match known {
                Some(at) => self.entries.remove(at),
                None => Entry { contact: ControllerId::new(controller.id.clone()), ..unheard_of() },
            };
            entry.id = Some(controller.id);
            entry.is_left_out = false;
            entry.moves_to(controller.endpoints);
            kept.push(entry);
        }
        let left_out = std::mem::replace(&mut self.entries, kept);
        let drops_connected = left_out.iter().any(|entry| is_connected(&entry.contact));
        let mut asks_leader = None;
        if drops_connected && !update.is_leader {
            self.entries.extend(left_out);
            asks_leader = self.leader.as_ref().map(|(leader, _)| leader.clone());
        } else {
            if !self.entries.iter().any(|entry| is_connected(&entry.contact)) {
                // Nobody on the list has admitted us: a peer's word alone makes us forget nobody who has.
                let stay = left_out.into_iter().filter(|entry| entry.is_trusted);
                self.entries.extend(stay.map(|entry| Entry { is_left_out: true, ..entry }));
            }
            if update.index <= INDEX_MAX {
                self.index = Some((sender.clone(), update.index));
            }
        }
        if self.entries == before { Applied::Nothing } else { Applied::Changed { asks_leader } }
    }

    /// A controller says that it leads.
    pub fn leads(&mut self, sender: &ControllerId, index: u64) {
        if index <= INDEX_MAX && self.leader.as_ref().is_none_or(|(_, known)| index > *known) {
            self.leader = Some((sender.clone(), index));
        }
    }

    /// Who leads, as far as anybody said.
    pub fn leader(&self) -> Option<&ControllerId> {
        self.leader.as_ref().map(|(leader, _)| leader)
    }

    /// A controller says that it moved. `false` when the address is of no use or known.
    pub fn moved(&mut self, contact: &ControllerId, address: &str) -> bool {
        let Some(address) = dialable(address) else { return false };
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.contact == *contact) else { return false };
        if entry.addresses.len() == 1 && entry.addresses.iter().any(|(known, _)| *known == address) {
            return false;
        }
        entry.moves_to(vec![(address, Vec::new())]);
        true
    }

    /// Writes the endpoints file: a new one, renamed over the old one.
    ///
    /// # Errors
    /// Whatever the disk says; the old file stands then, or the new one whole.
    pub fn save(&self) -> io::Result<()> {
        let mut content = EndpointsFile::default();
        for entry in &self.entries {
            match &entry.id {
                Some(id) => {
                    let former = entry.former.iter().map(|address| (address.clone(), Vec::new()));
                    let endpoints = entry.addresses.iter().cloned().chain(former).collect();
                    content.controllers.push(ControllerEndpoints { id: id.clone(), endpoints });
                }
                None => content.endpoints.extend(entry.dialable().cloned()),
            }
        }
        write_atomically(&self.file, content.render().as_bytes())
    }
}

fn nameless(address: Address) -> Entry {
    Entry {
        contact: ControllerId::new(address.to_string()),
        addresses: vec![(address, Vec::new())],
        is_trusted: true,
        ..unheard_of()
    }
}

/// A controller of which somebody has said that it is there.
fn unheard_of() -> Entry {
    Entry {
        contact: ControllerId::new(""),
        id: None,
        addresses: Vec::new(),
        former: Vec::new(),
        is_trusted: false,
        is_left_out: false,
    }
}

fn dialable(text: &str) -> Option<Address> {
    text.parse::<Address>().ok().filter(|address| address.scheme == Scheme::Tls && address.at.port != 0)
}

fn usable(controller: &wire::control::ControllerEndpoints) -> Option<ControllerEndpoints> {
    let endpoints: Vec<_> = controller
        .endpoints
        .iter()
        .filter_map(|endpoint| Some((dialable(&endpoint.address)?, endpoint.groups.clone())))
        .collect();
    let is_usable = !controller.id.is_empty() && !endpoints.is_empty();
    is_usable.then(|| ControllerEndpoints { id: controller.id.clone(), endpoints })
}

/// A file with mode 0600 from its first byte, synced, renamed into place, its folder synced.
pub(crate) fn write_atomically(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if !folder.exists() {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
    }
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().ok_or_else(|| io::Error::other("the path names no file"))?);
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = folder.join(name);
    let _ = fs::remove_file(&temporary);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(folder)?.sync_all()
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

#[cfg(test)]
mod tests {
    use wire::control::{ControllerEndpoints as WireController, CtrlEndpoint};

    use super::*;

    fn directory(addresses: &[&str]) -> Directory {
        let configured: Vec<Address> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        let folder = tempfile::tempdir().unwrap();
        Directory::open(&folder.path().join("endpoints.yml"), &configured).unwrap().0
    }

    fn update(index: u64, is_leader: bool, list: &[(&str, &str)]) -> UpdateCtrlAddresses {
        let controllers = list
            .iter()
            .map(|(id, address)| WireController {
                id: (*id).to_owned(),
                endpoints: vec![CtrlEndpoint { address: (*address).to_owned(), groups: vec![] }],
            })
            .collect();
        UpdateCtrlAddresses { addresses: vec![], index, is_leader, controllers }
    }

    #[test]
    fn a_controller_keeps_its_contact_when_its_id_becomes_known() {
        let mut directory = directory(&["tls:a:1"]);
        let contact = directory.contacts().remove(0);
        assert_eq!(directory.announced(&contact, "ctrl1"), None);
        let applied =
            directory.apply(&contact, &update(1, true, &[("ctrl1", "tls:b:2"), ("ctrl2", "tls:c:3")]), |_| true);
        assert_eq!(applied, Applied::Changed { asks_leader: None });
        assert_eq!(directory.contacts(), [contact, ControllerId::new("ctrl2")]);
    }

    #[test]
    fn an_older_list_changes_nothing() {
        let mut directory = directory(&["tls:a:1"]);
        let contact = directory.contacts().remove(0);
        directory.apply(&contact, &update(5, true, &[("x", "tls:a:1")]), |_| false);
        assert_eq!(directory.apply(&contact, &update(5, true, &[("y", "tls:z:9")]), |_| false), Applied::Nothing);
        assert_eq!(directory.contacts(), [contact]);
    }

    #[test]
    fn a_list_of_dead_addresses_makes_us_forget_nobody_who_has_admitted_us() {
        let mut directory = directory(&["tls:a:1"]);
        let contact = directory.contacts().remove(0);
        directory.announced(&contact, "ctrl1");
        assert!(!directory.admitted(&contact, Some(&Endpoint::new("a", 1))));
        let lie = update(u64::MAX, true, &[("nowhere", "tls:dead:1")]);
        assert_eq!(directory.apply(&contact, &lie, |id| *id == contact), Applied::Changed { asks_leader: None });
        assert_eq!(directory.contacts(), [ControllerId::new("nowhere"), contact.clone()]);
        // The same lie under its own name: it moves, and where it was is tried after that.
        directory.apply(&contact, &update(u64::MAX, true, &[("ctrl1", "tls:dead:2")]), |id| *id == contact);
        let entry = directory.entry(&contact).unwrap();
        assert_eq!(entry.dialable().map(ToString::to_string).collect::<Vec<_>>(), ["tls:dead:2", "tls:a:1"]);
        assert_eq!(
            directory.contacts(),
            std::slice::from_ref(&contact),
            "what never admitted us goes at the next word"
        );
        // Admitted at the new address: the old one has served its time.
        assert!(directory.admitted(&contact, Some(&Endpoint::new("dead", 2))));
        assert_eq!(directory.entry(&contact).unwrap().dialable().count(), 1);
    }

    #[test]
    fn who_is_left_out_goes_when_somebody_on_the_list_has_admitted_us() {
        let mut directory = directory(&["tls:a:1"]);
        let old = directory.contacts().remove(0);
        let new = ControllerId::new("new");
        directory.apply(&old, &update(1, true, &[("new", "tls:n:1")]), |id| *id == old);
        assert_eq!(directory.contacts(), [new.clone(), old.clone()]);
        assert!(!directory.admitted(&old, None), "the one that is left out proves nothing by staying");
        assert!(directory.admitted(&new, Some(&Endpoint::new("n", 1))));
        assert_eq!(directory.contacts(), [new]);
    }

    #[test]
    fn no_index_freezes_later_lists() {
        let mut directory = directory(&["tls:a:1", "tls:b:1"]);
        let [liar, honest] = <[ControllerId; 2]>::try_from(directory.contacts()).unwrap();
        let both = |id: &ControllerId| *id == liar || *id == honest;
        for index in [u64::MAX, INDEX_MAX] {
            directory.apply(&liar, &update(index, true, &[("x", "tls:dead:1")]), both);
        }
        directory.leads(&liar, u64::MAX);
        assert_eq!(directory.apply(&honest, &update(7, true, &[("h", "tls:b:1")]), both), Applied::Nothing);
        // Its word ends with its channel.
        directory.closed(&liar);
        let applied = directory.apply(&honest, &update(7, true, &[("h", "tls:b:1")]), |id| *id == honest);
        assert_eq!(applied, Applied::Changed { asks_leader: None });
        assert_eq!(directory.contacts(), std::slice::from_ref(&honest));
        assert_eq!(directory.leader(), Some(&honest));
    }

    #[test]
    fn while_nobody_is_connected_the_configured_addresses_are_tried_too() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("endpoints.yml");
        fs::write(&file, "endpoints: [\"tls:dead:1\"]\n").unwrap();
        let (mut directory, source) = Directory::open(&file, &["tls:a:1".parse().unwrap()]).unwrap();
        assert_eq!(source, EndpointsSource::File);
        assert_eq!(directory.contacts(), [ControllerId::new("tls:dead:1")]);
        assert!(directory.fall_back());
        assert!(!directory.fall_back(), "once is enough");
        assert_eq!(directory.contacts(), [ControllerId::new("tls:dead:1"), ControllerId::new("tls:a:1")]);
        assert!(directory.admitted(&ControllerId::new("tls:dead:1"), None), "it was only away");
        assert_eq!(directory.contacts(), [ControllerId::new("tls:dead:1")]);
    }

    #[test]
    fn a_follower_cannot_drop_a_connected_controller() {
        let mut directory = directory(&["tls:a:1"]);
        let contact = directory.contacts().remove(0);
        let applied = directory.apply(&contact, &update(1, false, &[("new", "tls:n:1")]), |_| true);
        assert_eq!(applied, Applied::Changed { asks_leader: None });
        assert_eq!(directory.contacts(), [ControllerId::new("new"), contact]);
    }

    #[test]
    fn two_addresses_of_one_controller_become_one() {
        let mut directory = directory(&["tls:a:1", "tls:b:2"]);
        let [first, second] = <[ControllerId; 2]>::try_from(directory.contacts()).unwrap();
        assert_eq!(directory.announced(&first, "ctrl1"), None);
        assert_eq!(directory.announced(&second, "ctrl1"), Some(second));
        assert_eq!(directory.entry(&first).unwrap().addresses.len(), 2);
    }

    #[test]
    fn what_is_saved_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("endpoints.yml");
        let (mut directory, _) = Directory::open(&file, &["tls:[::1]:6262".parse().unwrap()]).unwrap();
        let contact = directory.contacts().remove(0);
        directory.announced(&contact, "ctrl1");
        directory.save().unwrap();
        let (again, source) = Directory::open(&file, &[]).unwrap();
        assert_eq!(source, EndpointsSource::File);
        assert_eq!(again.contacts(), [ControllerId::new("ctrl1")]);
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }
}

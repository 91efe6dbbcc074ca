//! The endpoints file: addresses of controllers, as the controllers announce them.
//!
//! OpenZiti overwrites it in place, so after a crash it may be empty, cut off or full of zeros. None of that may keep a router from starting:
//! damage is reported, and the configured addresses serve. Source: `openziti/ziti:router/router.go`, `openziti/ziti:router/env/config.go`.

use ::config::{Address, Scheme};
use yaml_serde::Value;

const FIRST_LINE: &str = "# exuvia endpoints 1";
/// The last line of every file that we write. A file with the first line and without this one was cut off.
const LAST_LINE: &str = "# end";
const MAX_BYTES: usize = 1 << 20;
/// Most addresses that are kept from each of the two lists. Nobody has so many controllers; each address is compared with all others.
const MAX_ADDRESSES: usize = 1024;

/// What the file says. Nothing in it is secret, but enrollment writes it with mode 0600.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointsFile {
    /// Addresses of which no controller's id is known.
    pub endpoints: Vec<Address>,
    /// Addresses by controller.
    pub controllers: Vec<ControllerEndpoints>,
    /// How many entries could not be used. They are not written back.
    pub skipped: usize,
}

/// One controller's addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerEndpoints {
    /// The controller's id; never empty.
    pub id: String,
    /// Its addresses and the groups each belongs to; at least one.
    pub endpoints: Vec<(Address, Vec<String>)>,
}

/// Why the file is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointsDamage {
    /// Nothing is in it.
    #[error("it is empty")]
    Empty,
    /// Only zeros are in it, as after a power cut.
    #[error("it is full of zeros, as after a power cut")]
    Zeros,
    /// It is larger than any such file.
    #[error("it has {0} bytes, more than such a file can need")]
    TooLarge(usize),
    /// It is not UTF-8.
    #[error("it is not UTF-8 text")]
    NotText,
    /// It is not YAML.
    #[error("it is not YAML (line {line})")]
    NotYaml {
        /// Where reading failed, counted from 1.
        line: usize,
    },
    /// It is YAML of another kind.
    #[error("it holds no `endpoints` and no `controllers`")]
    OtherShape,
    /// Our own last line is not there.
    #[error("it was cut off while it was written")]
    CutOff,
    /// No address in it can be used.
    #[error("it holds no usable address")]
    NoAddress,
}

impl EndpointsFile {
    /// Reads the file's content. Entries that make no sense are skipped and counted.
    ///
    /// # Errors
    /// When nothing in it can be trusted or used.
    pub fn parse(content: &[u8]) -> Result<Self, EndpointsDamage> {
        if content.len() > MAX_BYTES {
            return Err(EndpointsDamage::TooLarge(content.len()));
        }
        if !content.is_empty() && content.iter().all(|byte| *byte == 0) {
            return Err(EndpointsDamage::Zeros);
        }
        let text = std::str::from_utf8(content).map_err(|_| EndpointsDamage::NotText)?;
        if text.trim().is_empty() {
            return Err(EndpointsDamage::Empty);
        }
        if text.starts_with(FIRST_LINE) && text.trim_end().lines().next_back() != Some(LAST_LINE) {
            return Err(EndpointsDamage::CutOff);
        }
        if ::config::nests_too_deep(text) {
            return Err(EndpointsDamage::OtherShape);
        }
        let value: Value = yaml_serde::from_str(text).map_err(|error| EndpointsDamage::NotYaml {
            line: error.location().map_or(1, |location| location.line()),
        })?;
        let has = |name| value.get(name).is_some();
        if !has("endpoints") && !has("controllers") {
            return Err(EndpointsDamage::OtherShape);
        }
        let mut file = Self::default();
        // A file torn right behind `endpoints:` has a null there, on which OpenZiti panics at every start.
        for item in list(value.get("endpoints")) {
            match item.as_str().and_then(usable) {
                Some(_) if file.endpoints.len() >= MAX_ADDRESSES => file.skipped += 1,
                Some(address) if !file.endpoints.contains(&address) => file.endpoints.push(address),
                Some(_) => {}
                None => file.skipped += 1,
            }
        }
        let mut room = MAX_ADDRESSES;
        for item in list(value.get("controllers")) {
            file.take_controller(item, &mut room);
        }
        // We repeat all addresses in `endpoints`; here each is kept once.
        let known = |address: &Address| {
            file.controllers.iter().flat_map(|one| &one.endpoints).any(|(other, _)| other == address)
        };
        let unclaimed = file.endpoints.iter().filter(|address| !known(address)).cloned().collect();
        file.endpoints = unclaimed;
        if file.addresses().is_empty() { Err(EndpointsDamage::NoAddress) } else { Ok(file) }
    }

    /// `room` is for how many more addresses.
    fn take_controller(&mut self, item: &Value, room: &mut usize) {
        let mut found = Vec::new();
        for endpoint in list(item.get("endpoints")) {
            if *room == 0 {
                self.skipped += 1;
                continue;
            }
            *room -= 1;
            let Some(address) = endpoint.get("address").and_then(Value::as_str).and_then(usable) else {
                self.skipped += 1;
                continue;
            };
            let groups = list(endpoint.get("groups")).iter().filter_map(Value::as_str).map(str::to_owned).collect();
            found.push((address, groups));
        }
        let id = item.get("id").and_then(Value::as_str).unwrap_or("");
        let is_known = self.controllers.iter().any(|controller| controller.id == id);
        if found.is_empty() || is_known {
            self.skipped += 1;
        } else if id.is_empty() {
            // Enrollment does not know ids yet. OpenZiti ignores such an entry; its addresses are good all the same.
            for (address, _) in found {
                if !self.endpoints.contains(&address) {
                    self.endpoints.push(address);
                }
            }
        } else {
            self.controllers.push(ControllerEndpoints { id: id.to_owned(), endpoints: found });
        }
    }

    /// All addresses, without duplicates.
    pub fn addresses(&self) -> Vec<Address> {
        let mut all = self.endpoints.clone();
        for (address, _) in self.controllers.iter().flat_map(|controller| &controller.endpoints) {
            if !all.contains(address) {
                all.push(address.clone());
            }
        }
        all
    }

    /// The file's content. OpenZiti can read it; `endpoints` repeats all addresses because its older routers read nothing else.
    pub fn render(&self) -> String {
        let mut out = format!("{FIRST_LINE}\nendpoints:\n");
        let addresses = self.addresses();
        if addresses.is_empty() {
            out = format!("{FIRST_LINE}\nendpoints: []\n");
        }
        for address in addresses {
            out.push_str(&format!("  - {}\n", quoted(&address.to_string())));
        }
        if !self.controllers.is_empty() {
            out.push_str("controllers:\n");
        }
        for controller in &self.controllers {
            out.push_str(&format!("  - id: {}\n    endpoints:\n", quoted(&controller.id)));
            for (address, groups) in &controller.endpoints {
                let groups: Vec<String> = groups.iter().map(|group| quoted(group)).collect();
                out.push_str(&format!(
                    "      - address: {}\n        groups: [{}]\n",
                    quoted(&address.to_string()),
                    groups.join(", ")
                ));
            }
        }
        out.push_str(LAST_LINE);
        out.push('\n');
        out
    }
}

fn list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_sequence).map_or(&[], Vec::as_slice)
}

fn usable(text: &str) -> Option<Address> {
    text.parse::<Address>().ok().filter(|address| address.scheme == Scheme::Tls && address.at.port != 0)
}

/// A double-quoted YAML scalar. Everything but printable ASCII is escaped.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            _ => out.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    out.push('"');
    out
}

/// Where the addresses for the first dials came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndpointsSource {
    /// From the endpoints file.
    File,
    /// From the configuration, since there is no endpoints file.
    Configured,
    /// From the configuration, since the file is damaged: tell the operator.
    ConfiguredInsteadOf(EndpointsDamage),
}

/// Addresses for the first dials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartingEndpoints {
    /// May be empty: then neither file nor configuration has one, and nothing can be dialed.
    pub addresses: Vec<Address>,
    /// Where they came from.
    pub source: EndpointsSource,
}

/// Chooses what to dial first: the file if it is intact, else what is configured. `content` is `None` if there is no file.
pub fn starting_endpoints(configured: &[Address], content: Option<&[u8]>) -> StartingEndpoints {
    match content.map(EndpointsFile::parse) {
        Some(Ok(file)) => StartingEndpoints { addresses: file.addresses(), source: EndpointsSource::File },
        Some(Err(damage)) => {
            StartingEndpoints { addresses: configured.to_vec(), source: EndpointsSource::ConfiguredInsteadOf(damage) }
        }
        None => StartingEndpoints { addresses: configured.to_vec(), source: EndpointsSource::Configured },
    }
}

//! Routers of both kinds as OpenZiti's fabric interface knows them.
//!
//! Times are RFC 3339, UTC. Source: `openziti/ziti:controller/specs/swagger.yml`.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::envelope::Link;
use crate::ziti::{Listeners, Nullable, Tags, VersionInfoView};

views! { "camelCase":
    /// A router of either kind.
    FabricRouterView {
        /// Where it is.
        links as "_links": BTreeMap<String, Link>,
        /// Its id: the common name of its client leaf.
        id: String,
        /// When it was made.
        created_at: String,
        /// When a person last changed it.
        updated_at: String,
        /// Labels.
        tags: Tags,
        /// Its name.
        name: String,
        /// SHA-1 of the leaf that an operator vouched for and that was not presented yet, or else of the leaf last used, or
        /// else of the enrolled one.
        fingerprint: Nullable<String>,
        /// Has it a control channel?
        connected: bool,
        /// What links through it cost.
        cost: u16,
        /// May traffic pass that neither starts nor ends here?
        no_traversal: bool,
        /// Is it switched off?
        disabled: bool,
        /// Addresses where other routers may link to it: none.
        listener_addresses: Vec<ListenerAddressView>,
        /// What it runs, while it is connected.
        version_info: Option<VersionInfoView>,
        /// Addresses where controllers may dial it, with their groups.
        ctrl_chan_listeners: Option<BTreeMap<String, Vec<String>>>,
        /// Network interfaces that it reports.
        interfaces: Vec<Value>,
        /// Ids of configurations that it is associated with: none.
        configs: Vec<String>,
    }

    /// An address where other routers may link to a router.
    ListenerAddressView {
        /// The address.
        address: String,
        /// What is spoken there.
        protocol: String,
    }

    /// A router to make that has a leaf already: it needs no enrollment.
    FabricRouterCreate {
        /// Its id: the common name of its leaf.
        id: String,
        /// Its name, unlike every other router's.
        name: String,
        /// SHA-1 of its client leaf, 40 hex digits. The leaf must lead to this controller's bundle.
        fingerprint: Option<String>,
        /// Labels.
        tags: Option<Tags>,
        /// What links through it cost: 0 to 65535.
        cost: Option<u16>,
        /// May traffic pass that neither starts nor ends here?
        no_traversal: Option<bool>,
        /// Is it made switched off?
        disabled: Option<bool>,
        /// Addresses where controllers may dial it, each with its groups or `null`.
        ctrl_chan_listeners: Option<Listeners>,
        /// Ids of configurations to associate with it. There are none here, so only an empty list is accepted.
        configs: Option<Vec<String>>,
    }

    /// A router as it is to be: what is left out goes back to its default, but for the fingerprint, which stays.
    FabricRouterUpdate {
        /// Its name, unlike every other router's.
        name: String,
        /// SHA-1 of the client leaf to admit, 40 hex digits.
        fingerprint: Option<String>,
        /// Labels.
        tags: Option<Tags>,
        /// What links through it cost: 0 to 65535.
        cost: Option<u16>,
        /// May traffic pass that neither starts nor ends here?
        no_traversal: Option<bool>,
        /// Is it switched off?
        disabled: Option<bool>,
        /// Addresses where controllers may dial it, each with its groups or `null`.
        ctrl_chan_listeners: Option<Listeners>,
        /// Ids of configurations to associate with it. There are none here, so only an empty list is accepted.
        configs: Option<Vec<String>>,
    }

    /// Changes to a router: what is left out stays.
    FabricRouterPatch {
        /// Its name, unlike every other router's.
        name: Option<String>,
        /// SHA-1 of the client leaf to admit, 40 hex digits. One that the register knows takes the place of those that came
        /// after it, and all channels are closed; one that it does not know is admitted when it is presented.
        fingerprint: Option<String>,
        /// Labels.
        tags: Option<Tags>,
        /// What links through it cost: 0 to 65535.
        cost: Option<u16>,
        /// May traffic pass that neither starts nor ends here?
        no_traversal: Option<bool>,
        /// Is it switched off?
        disabled: Option<bool>,
        /// Addresses where controllers may dial it, each with its groups or `null`.
        ctrl_chan_listeners: Option<Listeners>,
        /// Ids of configurations to associate with it. There are none here, so only an empty list is accepted.
        configs: Option<Vec<String>>,
    }
}

//! What OpenZiti's own clients and routers know: their words, their spelling.
//!
//! Times are RFC 3339, UTC. Source: `openziti/edge-api:management.yml`, `openziti/edge-api:client.yml`.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::Secret;
use crate::envelope::Link;
pub use crate::schema::Nullable;

/// Labels that a person put on something; the controller keeps them and reads nothing into them.
pub type Tags = BTreeMap<String, Value>;

/// Addresses where controllers may dial a router, each with its groups, if it has any.
pub type Listeners = BTreeMap<String, Nullable<Vec<String>>>;

views! { "camelCase":
    /// Who answers.
    VersionView {
        /// Version of the controller.
        version: String,
        /// Revision it was built from, as far as known.
        revision: String,
        /// When it was built, as far as known.
        build_date: String,
        /// What it was built with.
        runtime_version: String,
        /// Abilities beyond the plain interface.
        capabilities: Vec<String>,
        /// The interfaces bound here: binding, version, place.
        api_versions: BTreeMap<String, BTreeMap<String, ApiVersionView>>,
    }

    /// Where one version of an interface is.
    ApiVersionView {
        /// Path below the host.
        path: String,
        /// Whole URLs.
        api_base_urls: Vec<String>,
    }

    /// Name and password.
    AuthenticateRequest {
        /// The operator's name.
        username: String,
        /// The operator's password.
        password: Secret,
    }

    /// A session.
    SessionView {
        /// Where it is.
        links as "_links": BTreeMap<String, Link>,
        /// Its id, which is no secret.
        id: String,
        /// When it began.
        created_at: String,
        /// When it was last used.
        updated_at: String,
        /// Always empty.
        tags: Tags,
        /// The header value of later requests.
        token: Secret,
        /// Whose it is.
        identity: EntityRef,
        /// Id of whose it is.
        identity_id: String,
        /// Which way of authentication made it.
        authenticator_id: String,
        /// Where it came from.
        ip_address: String,
        /// Always empty.
        config_types: Vec<String>,
        /// Further factors that are asked for: none.
        auth_queries: Vec<Value>,
        /// Always false.
        is_mfa_required: bool,
        /// Always true.
        is_mfa_complete: bool,
        /// Always false.
        is_cert_extendable: bool,
        /// When it ends if it is not used.
        expires_at: String,
        /// The same in seconds from now.
        expiration_seconds: u64,
    }

    /// A reference to something.
    EntityRef {
        /// Where it is.
        links as "_links": BTreeMap<String, Link>,
        /// Which collection it is in.
        entity: String,
        /// Its id.
        id: String,
        /// Its name.
        name: String,
    }

    /// An edge router.
    EdgeRouterView {
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
        /// What links through it cost.
        cost: u16,
        /// May traffic pass that neither starts nor ends here?
        no_traversal: bool,
        /// Is it switched off?
        disabled: bool,
        /// Has it a control channel?
        is_online: bool,
        /// The host name that it reports.
        hostname: String,
        /// The protocols that it serves, by address.
        supported_protocols: BTreeMap<String, String>,
        /// How far its copy of the model has come.
        sync_status: String,
        /// Data for applications.
        app_data: Tags,
        /// Attributes that policies select by.
        role_attributes: Vec<String>,
        /// May it host and dial for others?
        is_tunneler_enabled: bool,
        /// Is it enrolled?
        is_verified: bool,
        /// SHA-1 of the leaf last used, or of the enrolled one.
        fingerprint: Option<String>,
        /// PEM of that leaf, with its issuers.
        cert_pem: Nullable<String>,
        /// SHA-1 of the newest leaf that was issued and not used yet.
        unverified_fingerprint: Nullable<String>,
        /// PEM of that leaf.
        unverified_cert_pem: Nullable<String>,
        /// The enrollment token, until it is enrolled.
        enrollment_jwt: Option<Secret>,
        /// The one-time part of it, until it is enrolled.
        enrollment_token: Option<Secret>,
        /// When the token was made, until it is enrolled.
        enrollment_created_at: Option<String>,
        /// When the token ends, until it is enrolled.
        enrollment_expires_at: Option<String>,
        /// What it runs.
        version_info: Option<VersionInfoView>,
        /// Addresses where controllers may dial it, with their groups.
        ctrl_chan_listeners: Option<BTreeMap<String, Vec<String>>>,
        /// Network interfaces that it reports.
        interfaces: Vec<Value>,
        /// Ids of configurations that it is associated with: none.
        configs: Vec<String>,
    }

    /// What a router runs.
    VersionInfoView {
        /// Version.
        version: String,
        /// Revision.
        revision: String,
        /// When it was built.
        build_date: String,
        /// Operating system.
        os: String,
        /// Processor.
        arch: String,
    }

    /// An edge router to make.
    EdgeRouterCreate {
        /// Its name, unlike every other router's.
        name: String,
        /// Labels.
        tags: Option<Tags>,
        /// Attributes that policies select by.
        role_attributes: Option<Vec<String>>,
        /// May it host and dial for others?
        is_tunneler_enabled: Option<bool>,
        /// What links through it cost: 0 to 65535.
        cost: Option<u16>,
        /// May traffic pass that neither starts nor ends here?
        no_traversal: Option<bool>,
        /// Is it made switched off?
        disabled: Option<bool>,
        /// Data for applications.
        app_data: Option<Tags>,
        /// Addresses where controllers may dial it, each with its groups or `null`.
        ctrl_chan_listeners: Option<Listeners>,
        /// Ids of configurations to associate with it. There are none here, so only an empty list is accepted.
        configs: Option<Vec<String>>,
    }

    /// Changes to an edge router: what is left out stays.
    EdgeRouterPatch {
        /// Its name, unlike every other router's.
        name: Option<String>,
        /// Labels.
        tags: Option<Tags>,
        /// Attributes that policies select by.
        role_attributes: Option<Vec<String>>,
        /// May it host and dial for others?
        is_tunneler_enabled: Option<bool>,
        /// What links through it cost: 0 to 65535.
        cost: Option<u16>,
        /// May traffic pass that neither starts nor ends here?
        no_traversal: Option<bool>,
        /// Is it switched off?
        disabled: Option<bool>,
        /// Data for applications.
        app_data: Option<Tags>,
        /// Addresses where controllers may dial it, each with its groups or `null`.
        ctrl_chan_listeners: Option<Listeners>,
        /// Ids of configurations to associate with it. There are none here, so only an empty list is accepted.
        configs: Option<Vec<String>>,
    }

    /// A transit router.
    TransitRouterView {
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
        /// What links through it cost.
        cost: u16,
        /// May traffic pass that neither starts nor ends here?
        no_traversal: bool,
        /// Is it switched off?
        disabled: bool,
        /// Has it a control channel?
        is_online: bool,
        /// Is it enrolled?
        is_verified: bool,
        /// SHA-1 of the leaf last used, or of the enrolled one.
        fingerprint: Nullable<String>,
        /// SHA-1 of the newest leaf that was issued and not used yet.
        unverified_fingerprint: Nullable<String>,
        /// PEM of that leaf.
        unverified_cert_pem: Nullable<String>,
        /// The enrollment token, until it is enrolled.
        enrollment_jwt: Option<Secret>,
        /// The one-time part of it, until it is enrolled.
        enrollment_token: Option<Secret>,
        /// When the token was made, until it is enrolled.
        enrollment_created_at: Option<String>,
        /// When the token ends, until it is enrolled.
        enrollment_expires_at: Option<String>,
        /// Addresses where controllers may dial it, with their groups.
        ctrl_chan_listeners: Option<BTreeMap<String, Vec<String>>>,
        /// Network interfaces that it reports.
        interfaces: Vec<Value>,
        /// Ids of configurations that it is associated with: none.
        configs: Vec<String>,
    }

    /// A transit router to make.
    TransitRouterCreate {
        /// Its name, unlike every other router's.
        name: String,
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

    /// Changes to a transit router: what is left out stays.
    TransitRouterPatch {
        /// Its name, unlike every other router's.
        name: Option<String>,
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

    /// What a router asks to have signed, as PEM.
    EnrollRequest {
        /// Request for the client leaf.
        cert_csr: Option<String>,
        /// Request for the server leaf.
        server_cert_csr: Option<String>,
    }

    /// What a router gets, as PEM.
    EnrollView {
        /// Client leaf, then its issuers, the root excluded.
        cert: String,
        /// Server leaf, then its issuers, the root excluded.
        server_cert: String,
        /// Every CA certificate that a router must trust; left out after an extension.
        ca: Option<String>,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_keeps_what_it_leaves_out_apart_from_what_it_sets() {
        let patch: EdgeRouterPatch = serde_json::from_str(r#"{"cost": 3, "unknownToUs": true}"#).unwrap();
        assert_eq!(patch.cost, Some(3));
        assert_eq!(patch.name, None);
        assert_eq!(serde_json::to_string(&patch).unwrap(), r#"{"cost":3}"#);
    }

    #[test]
    fn a_listener_without_groups_comes_as_null() {
        let text = r#"{"name": "r1", "ctrlChanListeners": {"tls:192.0.2.1:6262": null, "tls:192.0.2.2:6262": ["a"]}}"#;
        let create: EdgeRouterCreate = serde_json::from_str(text).unwrap();
        let listeners = create.ctrl_chan_listeners.unwrap();
        assert_eq!(listeners["tls:192.0.2.1:6262"], Nullable(None));
        assert_eq!(listeners["tls:192.0.2.2:6262"], Nullable(Some(vec!["a".to_owned()])));
    }

    #[test]
    fn an_enrollment_uses_upstreams_names() {
        let request: EnrollRequest = serde_json::from_str(r#"{"serverCertCsr": "s", "certCsr": "c"}"#).unwrap();
        assert_eq!((request.cert_csr.as_deref(), request.server_cert_csr.as_deref()), (Some("c"), Some("s")));
        let view = EnrollView { cert: "c".into(), server_cert: "s".into(), ca: Some("a".into()) };
        assert_eq!(serde_json::to_string(&view).unwrap(), r#"{"cert":"c","serverCert":"s","ca":"a"}"#);
    }
}

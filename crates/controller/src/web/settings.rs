//! What an administrator may choose for a router, checked and bounded before the register sees it.
//!
//! The register shows all of it in every list, so whoever may write must not be able to make lists that nobody can read.

use std::collections::BTreeMap;

use api::ziti::{EdgeRouterCreate, Listeners, Tags, TransitRouterCreate};
use api::{ApiError, Code};
use serde::Serialize;
use serde_json::{Map, Value};
use store::register::RouterPatch;

/// Longest name, in bytes.
const NAME_BYTES_MAX: usize = 256;
/// Labels, application data, attributes, listeners: each as JSON, in bytes.
const JSON_BYTES_MAX: usize = 16 * 1024;

/// Addresses where controllers may dial a router, each with its groups.
pub(super) type Groups = BTreeMap<String, Vec<String>>;

/// What a request sets. `None` leaves a field as it is.
#[derive(Default)]
pub(super) struct Settings {
    pub(super) name: Option<String>,
    pub(super) role_attributes: Option<Vec<String>>,
    pub(super) is_tunneler_enabled: Option<bool>,
    pub(super) cost: Option<u16>,
    pub(super) no_traversal: Option<bool>,
    pub(super) disabled: Option<bool>,
    pub(super) app_data: Option<Tags>,
    pub(super) tags: Option<Tags>,
    pub(super) listeners: Option<Listeners>,
    pub(super) configs: Option<Vec<String>>,
}

impl Settings {
    /// Everything that a create or a whole update sets; what is left out goes to its default.
    pub(super) fn of_edge(request: EdgeRouterCreate) -> Self {
        Self {
            name: Some(request.name),
            role_attributes: Some(request.role_attributes.unwrap_or_default()),
            is_tunneler_enabled: Some(request.is_tunneler_enabled.unwrap_or_default()),
            cost: Some(request.cost.unwrap_or_default()),
            no_traversal: Some(request.no_traversal.unwrap_or_default()),
            disabled: Some(request.disabled.unwrap_or_default()),
            app_data: Some(request.app_data.unwrap_or_default()),
            tags: Some(request.tags.unwrap_or_default()),
            listeners: Some(request.ctrl_chan_listeners.unwrap_or_default()),
            configs: request.configs,
        }
    }

    /// The same for a transit router.
    pub(super) fn of_transit(request: TransitRouterCreate) -> Self {
        Self {
            name: Some(request.name),
            cost: Some(request.cost.unwrap_or_default()),
            no_traversal: Some(request.no_traversal.unwrap_or_default()),
            disabled: Some(request.disabled.unwrap_or_default()),
            tags: Some(request.tags.unwrap_or_default()),
            listeners: Some(request.ctrl_chan_listeners.unwrap_or_default()),
            configs: request.configs,
            ..Self::default()
        }
    }

    /// The same as a patch for the register, and the listeners, which are kept among what the router already has.
    pub(super) fn checked(self) -> Result<(RouterPatch, Option<Groups>), ApiError> {
        if self.configs.is_some_and(|configs| !configs.is_empty()) {
            return Err(refuse("configs", "this controller keeps no configurations"));
        }
        if let Some(attributes) = &self.role_attributes {
            check_attributes(attributes)?;
        }
        let listeners = self.listeners.map(|listeners| -> Groups {
            listeners.into_iter().map(|(address, groups)| (address, groups.0.unwrap_or_default())).collect()
        });
        if let Some(listeners) = &listeners {
            bounded("ctrlChanListeners", listeners)?;
        }
        let patch = RouterPatch {
            name: self.name.map(checked_name).transpose()?,
            role_attributes: self.role_attributes,
            is_tunneler_enabled: self.is_tunneler_enabled,
            cost: self.cost,
            no_traversal: self.no_traversal,
            disabled: self.disabled,
            app_data: self.app_data.map(|data| map("appData", data)).transpose()?,
            tags: self.tags.map(|tags| map("tags", tags)).transpose()?,
            extra: None,
        };
        Ok((patch, listeners))
    }
}

fn refuse(field: &str, reason: impl Into<String>) -> ApiError {
    ApiError::field(Code::CouldNotValidate, field, reason, None)
}

pub(super) fn checked_name(name: String) -> Result<String, ApiError> {
    let reason = if name.trim().is_empty() {
        "must not be empty".to_owned()
    } else if name.len() > NAME_BYTES_MAX {
        format!("has {} bytes; at most {NAME_BYTES_MAX} are accepted", name.len())
    } else if name.chars().any(char::is_control) {
        "must not hold control characters".to_owned()
    } else {
        return Ok(name);
    };
    Err(refuse("name", reason))
}

fn check_attributes(attributes: &[String]) -> Result<(), ApiError> {
    for attribute in attributes {
        if attribute.trim().is_empty() || attribute.chars().any(char::is_control) {
            return Err(refuse("roleAttributes", "an attribute must not be empty or hold control characters"));
        }
        if attribute.starts_with(['#', '@']) {
            let reason = format!("an attribute is given without the `#` or `@` of `{attribute}`");
            return Err(refuse("roleAttributes", reason));
        }
    }
    bounded("roleAttributes", &attributes)
}

fn map(field: &str, tags: Tags) -> Result<Map<String, Value>, ApiError> {
    bounded(field, &tags)?;
    Ok(tags.into_iter().collect())
}

fn bounded(field: &str, value: &impl Serialize) -> Result<(), ApiError> {
    let bytes = serde_json::to_vec(value).map_err(|error| refuse(field, error.to_string()))?.len();
    if bytes > JSON_BYTES_MAX {
        return Err(refuse(field, format!("has {bytes} bytes as JSON; at most {JSON_BYTES_MAX} are accepted")));
    }
    Ok(())
}

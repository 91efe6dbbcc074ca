//! OpenZiti's role filters: attributes and ids that choose routers.

use api::{ApiError, Code};
use store::register::Router;

use super::call::Call;

/// Role filters of one request.
const FILTERS_MAX: usize = 64;

/// Which routers role filters choose: those whose attributes match, and those that are named.
pub(super) struct RoleFilter {
    attributes: Vec<String>,
    ids: Vec<String>,
    /// Must all attributes be there? Any otherwise.
    needs_all: bool,
}

impl RoleFilter {
    pub(super) fn read(call: &Call) -> Result<Option<Self>, ApiError> {
        let refuse = |name: &str, reason: &str, value: &str| {
            ApiError::field(Code::CouldNotValidate, name, reason, Some(value.into()))
        };
        let needs_all = match call.parameter("roleSemantic") {
            None | Some("") => true,
            Some(word) if word.eq_ignore_ascii_case("AllOf") => true,
            Some(word) if word.eq_ignore_ascii_case("AnyOf") => false,
            Some(word) => return Err(refuse("roleSemantic", "must be `AllOf` or `AnyOf`", word)),
        };
        let mut filter = Self { attributes: Vec::new(), ids: Vec::new(), needs_all };
        for (count, text) in call.parameters("roleFilter").enumerate() {
            if count >= FILTERS_MAX {
                return Err(refuse("roleFilter", "is given too often", text));
            }
            match text.split_at_checked(1) {
                Some(("#", attribute)) => filter.attributes.push(attribute.to_owned()),
                Some(("@", id)) => filter.ids.push(id.to_owned()),
                _ => return Err(refuse("roleFilter", "must begin with `#` (an attribute) or `@` (an id)", text)),
            }
        }
        let is_empty = filter.attributes.is_empty() && filter.ids.is_empty();
        Ok((!is_empty).then_some(filter))
    }

    pub(super) fn chooses(&self, router: &Router) -> bool {
        let has = |attribute: &String| router.role_attributes.contains(attribute);
        let by_attributes = if self.needs_all {
            !self.attributes.is_empty() && self.attributes.iter().all(has)
        } else {
            self.attributes.iter().any(has)
        };
        by_attributes || self.ids.iter().any(|id| id == router.id.as_str())
    }
}

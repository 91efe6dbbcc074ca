//! Errors as they travel, and the closed list of their codes.
//!
//! Source: `openziti/ziti:controller/apierror/messages.go`, `openziti/foundation:errorz/messages.go`,
//! `openziti/ziti:controller/internal/routes/enroll_router.go`.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

macro_rules! codes {
    ($( $(#[doc = $doc:literal])+ $name:ident = $text:literal, $status:literal, $message:literal; )*) => {
        /// What went wrong, as a client tells it apart. Each has one HTTP status and one standing message.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code { $( $(#[doc = $doc])+ $name, )* }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The code as it travels.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }

            /// The HTTP status that it comes with.
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status),* }
            }

            /// What it means, in general.
            pub const fn message(self) -> &'static str {
                match self { $(Self::$name => $message),* }
            }
        }
    };
}

codes! {
    /// The caller asks for something that is not there.
    NotFound = "NOT_FOUND", 404, "The resource requested was not found or is no longer available";
    /// The path is there, this method is not.
    MethodNotAllowed = "METHOD_NOT_ALLOWED", 405, "The resource requested does not support this HTTP verb";
    /// No session, or one that ended.
    Unauthorized = "UNAUTHORIZED", 401, "The request could not be completed. The session is not authorized or the credentials are invalid";
    /// Wrong name or password.
    InvalidAuth = "INVALID_AUTH", 401, "The authentication request failed";
    /// Not one of the ways to authenticate here.
    InvalidAuthMethod = "INVALID_AUTH_METHOD", 400, "The supplied authentication method is not valid";
    /// Body or query are no JSON, or do not have the right shape.
    CouldNotValidate = "COULD_NOT_VALIDATE", 400, "The supplied request contains an invalid document";
    /// One field has a value that it may not have.
    InvalidField = "INVALID_FIELD", 400, "The field contains an invalid value";
    /// The filter is outside the grammar, or names a field that cannot be filtered.
    InvalidFilter = "INVALID_FILTER", 400, "The filter query supplied is invalid";
    /// Limit or offset are no numbers.
    InvalidPagination = "INVALID_PAGINATION", 400, "The pagination properties provided are invalid";
    /// The sort order names a field that cannot be sorted by.
    InvalidSort = "INVALID_SORT_IDENTIFIER", 400, "The sort order supplied is invalid";
    /// The body's `content-type` is not JSON.
    InvalidContentType = "INVALID_CONTENT_TYPE", 415, "The content type supplied is not acceptable";
    /// No such token, or it is spent, or its router is gone.
    InvalidEnrollmentToken = "INVALID_ENROLLMENT_TOKEN", 400, "The supplied token is not valid";
    /// The token is for another method.
    InvalidEnrollMethod = "INVALID_ENROLL_METHOD", 400, "The supplied enrollment method is not valid";
    /// The token is past its expiry.
    EnrollmentExpired = "ENROLLMENT_EXPIRED", 400, "The window for this enrollment has expired";
    /// An edge router's enrollment without one of its two requests.
    MissingOrInvalidCsr = "MISSING_OR_INVALID_CSR", 400, "The supplied csr is missing or invalid";
    /// A request that cannot be signed.
    CouldNotProcessCsr = "COULD_NOT_PROCESS_CSR", 400, "The supplied csr could not be processed";
    /// Making a new enrollment failed.
    FailedReEnrollment = "FAILED_ER_REENROLLMENT", 500, "An edge router failed to be re-enrolled";
    /// What was asked for contradicts what is there.
    Conflict = "CONFLICT", 409, "The request contradicts the present state of the resource";
    /// The signing certificate ends so soon that nothing useful can be signed.
    IssuerEndsSoon = "ISSUER_ENDS_SOON", 503, "The signing certificate ends too soon to sign anything useful";
    /// The body is over 1 MiB.
    TooLarge = "REQUEST_ENTITY_TOO_LARGE", 413, "The body of the request is too large";
    /// Too many failed attempts; come back later.
    RateLimited = "RATE_LIMITED", 429, "Too many requests; wait and try again";
    /// More requests than can be worked on at once.
    ServerTooManyRequests = "SERVER_TOO_MANY_REQUESTS", 429, "The server is handling too many requests; wait and try again";
    /// The controller is stopping, or its register does not answer.
    Unavailable = "UNAVAILABLE", 503, "The controller cannot serve this request now; try again";
    /// A fault of ours.
    Unhandled = "UNHANDLED", 500, "An unhandled error occurred";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

views! { "camelCase":
    /// An answer that is an error.
    ErrorEnvelope {
        /// What went wrong.
        error: ErrorView,
        /// Versions of the interface.
        meta: ErrorMeta,
    }

    /// What went wrong.
    ErrorView {
        /// What to tell it apart by.
        code: String,
        /// What it means, in general.
        message: String,
        /// Names this request in the controller's log.
        request_id: String,
        /// What it was this time.
        cause: Option<CauseView>,
        /// The same as text, for clients that show only this.
        cause_message: Option<String>,
        /// Values that the message speaks of.
        args: Option<BTreeMap<String, Value>>,
    }

    /// What went wrong this time: which field, and why; or an inner error.
    CauseView {
        /// Code of the inner error.
        code: Option<String>,
        /// Text of the inner error.
        message: Option<String>,
        /// The field that it is about.
        field: Option<String>,
        /// Why its value will not do.
        reason: Option<String>,
        /// The value as text; empty where it is a secret or of no interest.
        value: Option<String>,
    }

    /// Versions of the interface, in errors only.
    ErrorMeta {
        /// Version of the management interface.
        api_version: String,
        /// Version of the enrollment interface.
        api_enrollment_version: String,
    }
}

impl Default for ErrorMeta {
    fn default() -> Self {
        Self { api_version: "0.0.1".to_owned(), api_enrollment_version: "0.0.1".to_owned() }
    }
}

/// A request that failed, as the server's code hands it around.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{}: {}", code.as_str(), text(code, cause))]
pub struct ApiError {
    /// What to tell it apart by.
    pub code: Code,
    /// What it was this time.
    pub cause: Option<Box<CauseView>>,
    /// How long the caller should wait before it comes back, in seconds (header `retry-after`).
    pub retry_after_s: Option<u64>,
}

fn text<'a>(code: &Code, cause: &'a Option<Box<CauseView>>) -> &'a str {
    let told = cause.as_ref().and_then(|cause| cause.reason.as_deref().or(cause.message.as_deref()));
    told.unwrap_or(code.message())
}

impl ApiError {
    /// An error that says no more than its code.
    pub fn new(code: Code) -> Self {
        Self { code, cause: None, retry_after_s: None }
    }

    /// An error with a sentence about this very case.
    pub fn because(code: Code, message: impl Into<String>) -> Self {
        let cause = CauseView {
            code: Some(code.as_str().to_owned()),
            message: Some(message.into()),
            field: None,
            reason: None,
            value: None,
        };
        Self { code, cause: Some(Box::new(cause)), retry_after_s: None }
    }

    /// An error about one field.
    pub fn field(code: Code, field: &str, reason: impl Into<String>, value: Option<Value>) -> Self {
        // A text in any case, as upstream: its fabric interface says so, and its clients print it whether it is there or not.
        let value = match value {
            Some(Value::String(text)) => text,
            Some(other) => other.to_string(),
            None => String::new(),
        };
        let cause = CauseView {
            code: None,
            message: None,
            field: Some(field.to_owned()),
            reason: Some(reason.into()),
            value: Some(value),
        };
        Self { code, cause: Some(Box::new(cause)), retry_after_s: None }
    }

    /// The same error, telling the caller when to come back.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// The error as it travels.
    pub fn into_view(self, request_id: String) -> ErrorEnvelope {
        let cause_message = self.cause.as_ref().map(|cause| match (&cause.field, &cause.reason, &cause.message) {
            (Some(field), Some(reason), _) => format!("`{field}`: {reason}"),
            (_, _, Some(message)) => message.clone(),
            _ => self.code.message().to_owned(),
        });
        ErrorEnvelope {
            error: ErrorView {
                code: self.code.as_str().to_owned(),
                message: self.code.message().to_owned(),
                request_id,
                cause: self.cause.map(|cause| *cause),
                cause_message,
                args: None,
            },
            meta: ErrorMeta::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ApiError, Code};

    #[test]
    fn an_error_about_a_field_names_it_twice() {
        let error = ApiError::field(Code::InvalidField, "cost", "must be at most 65535", Some(70000.into()));
        let json = serde_json::to_value(error.into_view("id-1".to_owned())).unwrap();
        let want = serde_json::json!({
            "error": {
                "code": "INVALID_FIELD",
                "message": "The field contains an invalid value",
                "requestId": "id-1",
                "cause": { "field": "cost", "reason": "must be at most 65535", "value": "70000" },
                "causeMessage": "`cost`: must be at most 65535",
            },
            "meta": { "apiVersion": "0.0.1", "apiEnrollmentVersion": "0.0.1" },
        });
        assert_eq!(json, want);
    }

    #[test]
    fn codes_are_unique_and_their_statuses_are_errors() {
        let mut texts: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), Code::ALL.len());
        assert!(Code::ALL.iter().all(|code| (400..600).contains(&code.status())));
    }
}

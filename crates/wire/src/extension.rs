//! The exchange that carries a renewal: 20302 asks, 20301 brings the chains, 20303 says they are stored, 20002 confirms.
//!
//! ```text
//!  router                                   controller
//!    │ 20302 ExtensionRequest  ───────────▶ │  signs
//!    │ ◀───────────  CertsResponse 20301    │  not marked as a reply: answers are matched by their public keys
//!    │ 20303 ExtensionVerify   ───────────▶ │  promotes (stock) or confirms (Exuvia)
//!    │ ◀───────────  ErrorAnswer 20002      │  a reply; a body of zero bytes is success
//! ```
//!
//! A stock controller answers a 20302 that it refuses with nothing at all.
//!
//! Upstream: `openziti/ziti:common/pb/edge_ctrl_pb/edge_ctrl.proto`,
//! `openziti/ziti:controller/handler_edge_ctrl/extend_enrollment.go`,
//! `openziti/ziti:controller/handler_edge_ctrl/extend_enrollment_verify.go`,
//! `openziti/ziti:router/state/extendEnrollmentCerts.go`.

use crate::content_type;
use crate::frame::Frame;
use crate::message::{Body, framed};
use crate::proto::edge as proto;

/// Longest body of any of the four messages, in bytes. Two RSA-4096 CSRs with a page of names are under 10 kB.
pub const EXTENSION_BYTES_MAX: usize = 256 << 10;

/// 20302, router to controller: sign these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtensionRequest {
    /// CSR of the client leaf, PEM `CERTIFICATE REQUEST`.
    pub client_csr_pem: String,
    /// CSR of the server leaf, PEM.
    pub server_csr_pem: String,
    /// The router will send [`ExtensionVerify`] once the chains are stored. Without it a stock controller swaps before it
    /// answers, and a lost answer locks the router out.
    pub require_verification: bool,
}

/// 20301, controller to router: the chains. Not a reply, and without a request id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertsResponse {
    /// Client leaf and intermediates, PEM.
    pub client_chain_pem: String,
    /// Server leaf and intermediates, PEM.
    pub server_chain_pem: String,
    /// Trust anchors, PEM; stock controllers leave it empty and stock routers do not read it.
    pub ca_pem: String,
}

/// 20303, router to controller: this client chain is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtensionVerify {
    /// The client chain as received, PEM, byte for byte: for a transit router a stock controller compares text.
    pub client_chain_pem: String,
}

/// 20002 as the answer to [`ExtensionVerify`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorAnswer {
    /// One of [`error_code`]; empty is success.
    pub code: String,
    /// For people.
    pub message: String,
    /// For people.
    pub cause: String,
}

/// The codes of [`ErrorAnswer`].
pub mod error_code {
    /// The body of 20303 could not be read.
    pub const COULD_NOT_UNMARSHAL: &str = "COULD_NOT_UNMARSHAL";
    /// 20303 holds no certificate.
    pub const MISSING_CLIENT_PEM: &str = "MISSING_CLIENT_PEM";
    /// Nothing is pending for this router.
    pub const INVALID_ROUTER_STATE: &str = "INVALID_ROUTER_STATE";
    /// Not the pending certificate.
    pub const INVALID_CLIENT_PEM: &str = "INVALID_CLIENT_PEM";
    /// The store failed; in a cluster the outcome is unknown.
    pub const VERIFY_ERROR: &str = "VERIFY_ERROR";
    /// No such router.
    pub const ROUTER_NOT_FOUND: &str = "ROUTER_NOT_FOUND";
}

impl ErrorAnswer {
    /// The answer that says yes: a body of zero bytes.
    pub fn success() -> Self {
        Self::default()
    }

    /// The answer that says no.
    pub fn failure(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into(), cause: String::new() }
    }

    /// Whether the controller said yes.
    pub fn is_success(&self) -> bool {
        self.code.is_empty()
    }

    /// The answer, marked as the reply to `verify`.
    pub fn to_reply(&self, verify: &Frame) -> Frame {
        Frame::reply(content_type::ERROR, self.to_frame().body, verify)
    }
}

framed!(ExtensionRequest, CertsResponse, ExtensionVerify, ErrorAnswer);

impl Body for ExtensionRequest {
    const CONTENT_TYPE: i32 = content_type::EXTENSION_REQUEST;
    const BYTES_MAX: usize = EXTENSION_BYTES_MAX;
    type Proto = proto::EnrollmentExtendRouterRequest;

    fn to_proto(&self) -> Self::Proto {
        Self::Proto {
            client_cert_csr: self.client_csr_pem.clone(),
            server_cert_csr: self.server_csr_pem.clone(),
            require_verification: self.require_verification,
        }
    }

    fn from_proto(proto: Self::Proto) -> Self {
        Self {
            client_csr_pem: proto.client_cert_csr,
            server_csr_pem: proto.server_cert_csr,
            require_verification: proto.require_verification,
        }
    }
}

impl Body for CertsResponse {
    const CONTENT_TYPE: i32 = content_type::ENROLLMENT_CERTS;
    const BYTES_MAX: usize = EXTENSION_BYTES_MAX;
    type Proto = proto::EnrollmentCertsResponse;

    fn to_proto(&self) -> Self::Proto {
        Self::Proto {
            client_cert_pem: self.client_chain_pem.clone(),
            server_cert_pem: self.server_chain_pem.clone(),
            ca_certs_pem: self.ca_pem.clone(),
        }
    }

    fn from_proto(proto: Self::Proto) -> Self {
        Self {
            client_chain_pem: proto.client_cert_pem,
            server_chain_pem: proto.server_cert_pem,
            ca_pem: proto.ca_certs_pem,
        }
    }
}

impl Body for ExtensionVerify {
    const CONTENT_TYPE: i32 = content_type::EXTENSION_VERIFY;
    const BYTES_MAX: usize = EXTENSION_BYTES_MAX;
    type Proto = proto::EnrollmentExtendRouterVerifyRequest;

    fn to_proto(&self) -> Self::Proto {
        Self::Proto { client_cert_pem: self.client_chain_pem.clone() }
    }

    fn from_proto(proto: Self::Proto) -> Self {
        Self { client_chain_pem: proto.client_cert_pem }
    }
}

impl Body for ErrorAnswer {
    const CONTENT_TYPE: i32 = content_type::ERROR;
    const BYTES_MAX: usize = EXTENSION_BYTES_MAX;
    type Proto = proto::Error;

    fn to_proto(&self) -> Self::Proto {
        Self::Proto { code: self.code.clone(), message: self.message.clone(), cause: self.cause.clone() }
    }

    fn from_proto(proto: Self::Proto) -> Self {
        Self { code: proto.code, message: proto.message, cause: proto.cause }
    }
}

//! Keys, leaves, chains, CSRs and enrollment tokens: parsed once, then trusted.
//!
//! Pure: bytes in, values out. The time is always a parameter; the only randomness is that of new keys, serial
//! numbers and signatures. What comes from a file, a peer or a person goes through a type whose constructor checks
//! it; whoever holds the type may rely on what it says.
//!
//! | what arrives | becomes |
//! |---|---|
//! | key file | [`PrivateKey`] |
//! | certificate file, chain, CA file | [`Certificate`], [`Chain`], [`TrustBundle`] |
//! | certificate request | [`Csr`] |
//! | what a peer presented in a handshake | [`validate_chain`] |
//! | what a controller answered | [`check_issued`] |
//! | enrollment token | [`EnrollmentToken`] |

#![forbid(unsafe_code)]

mod algorithm;
mod ca;
mod certificate;
mod chain;
mod csr;
mod est;
mod issued;
mod issuer;
mod key;
mod pem;
mod sans;
mod subject;
mod token;
mod validate;

pub use algorithm::{KeyKind, PublicKey};
pub use ca::{new_intermediate, new_root};
pub use certificate::{Certificate, CertificateError, FingerprintTextError, Sha1Fingerprint};
pub use chain::{Chain, ChainError, MAX_BUNDLE_CERTIFICATES, MAX_CHAIN_CERTIFICATES, TrustBundle};
pub use csr::{Csr, CsrError, build_csr};
pub use est::{EstError, decode_cacerts, encode_cacerts};
pub use issued::{Expected, Issued, IssuedError, Which, check_issued};
pub use issuer::{IssueError, Issuer, IssuerEndsSoon, IssuerError, Profile, Validity, ValidityError, validity};
pub use key::{KeyError, PrivateKey};
pub use pem::{MAX_CERTIFICATES_PEM_BYTES, MAX_CSR_PEM_BYTES, MAX_KEY_PEM_BYTES, PemError};
pub use sans::{IpRange, IpRangeError, SanError, SanRefused, Sans, SansAllowList, SansPolicy};
pub use subject::{Attribute, Subject, SubjectError};
pub use token::{EnrollmentMethod, EnrollmentToken, MAX_TOKEN_BYTES, TokenError, peek_issuer};
pub use validate::{Usage, ValidationError, validate_chain};

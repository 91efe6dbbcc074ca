//! Verifiers that accept more certificates than webpki does, and not one handshake signature more.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::provider;

/// More than any real chain has; each one costs a parse during path building.
const PRESENTED_MAX: usize = 10;

macro_rules! handshake_signature_is_always_checked {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls12_signature(message, cert, dss, &provider().signature_verification_algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls13_signature(message, cert, dss, &provider().signature_verification_algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            provider().signature_verification_algorithms.supported_schemes()
        }
    };
}

/// A listener's view: any chain, expired or foreign; the hello decides.
#[derive(Debug)]
pub(super) struct AnyClient {
    pub(super) mandatory: bool,
}

impl ClientCertVerifier for AnyClient {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    // No hints: a router that is told which issuers count may decide to present nothing.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if intermediates.len() >= PRESENTED_MAX {
            return Err(Error::General(format!("more than {PRESENTED_MAX} certificates were presented")));
        }
        ParsedCertificate::try_from(end_entity)?;
        Ok(ClientCertVerified::assertion())
    }

    handshake_signature_is_always_checked!();
}

/// A client's view when it knows one certificate and no issuer.
#[derive(Debug)]
pub(super) struct ExactServer {
    leaf: CertificateDer<'static>,
}

impl ExactServer {
    pub(super) fn new(leaf: CertificateDer<'static>) -> Self {
        Self { leaf }
    }
}

impl ServerCertVerifier for ExactServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if end_entity.as_ref() != self.leaf.as_ref() {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        let parsed = ParsedCertificate::try_from(end_entity)?;
        rustls::client::verify_server_name(&parsed, server_name)?;
        let certificate =
            pki::Certificate::from_der(end_entity).map_err(|_| Error::from(CertificateError::BadEncoding))?;
        if !certificate.serves_servers() {
            return Err(CertificateError::InvalidPurpose.into());
        }
        let facts = certificate.facts();
        let now = lifecycle::UnixTime::from_s(i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
        if now < facts.not_before {
            return Err(CertificateError::NotValidYet.into());
        }
        if facts.is_expired(now) {
            return Err(CertificateError::Expired.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    handshake_signature_is_always_checked!();
}

/// A client's view when it only wants to see the certificate.
#[derive(Debug)]
pub(super) struct AnyServer;

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        ParsedCertificate::try_from(end_entity)?;
        Ok(ServerCertVerified::assertion())
    }

    handshake_signature_is_always_checked!();
}

//! Distinguished names: what is read from one, and how ours are made.

use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::der::asn1::{Any, BmpString, ObjectIdentifier};
use x509_cert::der::{Decode, Encode, Tag, Tagged};
use x509_cert::name::{Name, RdnSequence, RelativeDistinguishedName};

use crate::certificate::Certificate;

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
/// Most characters of a value that we issue: the bound that X.520 gives for CN, O and OU.
const MAX_VALUE_CHARS: usize = 64;
/// Most attributes, CN aside, that we issue.
const MAX_ATTRIBUTES: usize = 16;

/// The parts of a name that `router.yml`'s `csr` section knows, CN aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attribute {
    /// C, `country`.
    Country,
    /// ST, `province`.
    State,
    /// L, `locality`.
    Locality,
    /// O, `organization`.
    Organization,
    /// OU, `organizationalUnit`.
    OrganizationalUnit,
}

impl Attribute {
    const ALL: [Self; 5] = [Self::Country, Self::State, Self::Locality, Self::Organization, Self::OrganizationalUnit];

    const fn oid(self) -> ObjectIdentifier {
        match self {
            Self::Country => ObjectIdentifier::new_unwrap("2.5.4.6"),
            Self::State => ObjectIdentifier::new_unwrap("2.5.4.8"),
            Self::Locality => ObjectIdentifier::new_unwrap("2.5.4.7"),
            Self::Organization => ObjectIdentifier::new_unwrap("2.5.4.10"),
            Self::OrganizationalUnit => ObjectIdentifier::new_unwrap("2.5.4.11"),
        }
    }
}

/// A name could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// The CN is empty or too long.
    #[error("a common name of {chars} characters; 1 to {MAX_VALUE_CHARS} are expected")]
    BadCommonName {
        /// How long it is.
        chars: usize,
    },
    /// A value that DER cannot hold.
    #[error("the subject cannot be encoded")]
    Encoding,
}

/// A subject for a new certificate or request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    pub(crate) name: Name,
}

impl Subject {
    /// CN alone.
    ///
    /// # Errors
    /// [`SubjectError::BadCommonName`].
    pub fn common_name(cn: &str) -> Result<Self, SubjectError> {
        Self::new(cn, &[])
    }

    /// The attributes in the order given, then the CN. Empty values are left out.
    ///
    /// # Errors
    /// [`SubjectError::BadCommonName`].
    pub fn new(cn: &str, attributes: &[(Attribute, &str)]) -> Result<Self, SubjectError> {
        let chars = cn.chars().count();
        if !(1..=MAX_VALUE_CHARS).contains(&chars) {
            return Err(SubjectError::BadCommonName { chars });
        }
        let mut sequence = RdnSequence::default();
        for (attribute, value) in attributes.iter().filter(|(_, value)| !value.is_empty()) {
            push(&mut sequence, attribute.oid(), value)?;
        }
        push(&mut sequence, COMMON_NAME, cn)?;
        // `Name` has no constructor from its parts.
        let name = sequence.to_der().and_then(|der| Name::from_der(&der)).map_err(|_| SubjectError::Encoding)?;
        Ok(Self { name })
    }

    /// The whole subject of `certificate`, as it is: what OpenZiti's router asks for when it renews
    /// (`openziti/ziti:router/state/extendEnrollmentCerts.go`).
    pub fn of(certificate: &Certificate) -> Self {
        Self { name: certificate.subject().clone() }
    }

    /// What is issued to somebody who asked for `requested`: the CN that *we* say, and of the rest the non-empty C,
    /// ST, L, O and OU of sensible length, in their order.
    pub(crate) fn granted(cn: &str, requested: &Name) -> Result<Self, SubjectError> {
        let kept: Vec<(Attribute, String)> = requested
            .iter()
            .filter_map(|pair| {
                let attribute = Attribute::ALL.into_iter().find(|attribute| attribute.oid() == pair.oid)?;
                let value = text(&pair.value)?;
                (1..=MAX_VALUE_CHARS).contains(&value.chars().count()).then_some((attribute, value))
            })
            .take(MAX_ATTRIBUTES)
            .collect();
        let borrowed: Vec<(Attribute, &str)> =
            kept.iter().map(|(attribute, value)| (*attribute, value.as_str())).collect();
        Self::new(cn, &borrowed)
    }
}

fn push(sequence: &mut RdnSequence, oid: ObjectIdentifier, value: &str) -> Result<(), SubjectError> {
    // PrintableString where its alphabet suffices, as Go does; X.520 wants it for countries.
    let printable = value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(&byte));
    let tag = if printable { Tag::PrintableString } else { Tag::Utf8String };
    let value = Any::new(tag, value.as_bytes()).map_err(|_| SubjectError::Encoding)?;
    let mut part = RelativeDistinguishedName::default();
    part.insert(AttributeTypeAndValue { oid, value }).map_err(|_| SubjectError::Encoding)?;
    sequence.push(part);
    Ok(())
}

/// Every CN of `name`, in order; `None` in place of one that is not text.
pub(crate) fn common_names(name: &Name) -> impl Iterator<Item = Option<String>> + '_ {
    name.iter().filter(|pair| pair.oid == COMMON_NAME).map(|pair| text(&pair.value))
}

/// An attribute value as text, also one of no length, which OpenZiti writes for whatever is not configured.
fn text(value: &Any) -> Option<String> {
    match value.tag() {
        Tag::BmpString => value.decode_as::<BmpString>().ok().map(|text| text.to_string()),
        // Latin-1 in practice, whatever the standard says.
        Tag::TeletexString => Some(value.value().iter().copied().map(char::from).collect()),
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String => {
            std::str::from_utf8(value.value()).ok().map(str::to_owned)
        }
        _ => None,
    }
}

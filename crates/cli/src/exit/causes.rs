//! Which end each error of the parts leads to.

use std::io;

use ::config::ConfigErrors;
use controller::daemon::DaemonError;
use controller::init::InitError;
use controller::maintenance::ResetError;
use net::connect::ConnectError;
use net::http::HttpError;
use router::admin::AdminError;
use router::enroll::{EnrollError, EnrollFailure};
use router::extend::ExtendError;
use router::rescue::RescueError;
use router::run::RunError;
use store::StoreError;
use store::register::RegisterError;

use super::{Exit, Failure};

impl From<ConfigErrors> for Failure {
    /// The report names every problem with its remedy.
    fn from(errors: ConfigErrors) -> Self {
        Self::report(Exit::Input, errors)
    }
}

impl From<HttpError> for Failure {
    fn from(error: HttpError) -> Self {
        let exit = of_http(&error);
        let hint = match &error {
            HttpError::Connect(ConnectError::NotTrusted { .. }) => Some(
                "if the controller got a new CA, log in again: `exuvia fleet login`; otherwise somebody is in between",
            ),
            HttpError::Connect(ConnectError::Tls { .. } | ConnectError::HandshakeCut { .. }) => {
                Some("is this the port of the controller's API? The control port speaks another protocol")
            }
            HttpError::Exchange { .. } | HttpError::TimedOut { .. } => {
                Some("the controller may have done what was asked for; look before trying again: `exuvia fleet list`")
            }
            HttpError::TooLong { .. } => Some("is this the address of a controller's API?"),
            HttpError::Address { .. } | HttpError::Setup(_) | HttpError::Connect(_) => None,
        };
        let failure = Self::new(exit, error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

fn of_http(error: &HttpError) -> Exit {
    match error {
        HttpError::Address { .. } | HttpError::Connect(ConnectError::ServerName { .. }) => Exit::Usage,
        HttpError::Setup(_) => Exit::Input,
        HttpError::Connect(_) | HttpError::Exchange { .. } | HttpError::TimedOut { .. } | HttpError::TooLong { .. } => {
            Exit::Unreachable
        }
    }
}

/// A port that cannot be listened on.
fn of_listen(source: &io::Error) -> Exit {
    if source.kind() == io::ErrorKind::AddrInUse { Exit::Busy } else { Exit::Input }
}

fn of_store(error: &StoreError) -> Exit {
    if matches!(error, StoreError::Busy { .. }) { Exit::Busy } else { Exit::Storage }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        let exit = match &error {
            RunError::Config(_) => return Self::report(Exit::Input, error),
            RunError::ReadConfig { .. }
            | RunError::NotEnrolled { .. }
            | RunError::Unreadable { .. }
            | RunError::NoPlace
            | RunError::NoController
            | RunError::Endpoints { .. } => Exit::Input,
            RunError::Damaged { .. } => Exit::Storage,
            RunError::Store(error) => of_store(error),
            RunError::Web(error) => of_listen(&error.source),
        };
        let hint = error.hint();
        Self::new(exit, error).hint(hint)
    }
}

impl From<ExtendError> for Failure {
    fn from(error: ExtendError) -> Self {
        let exit = match error {
            ExtendError::Run(error) => return error.into(),
            ExtendError::NotInFiles { .. } => Exit::Input,
            ExtendError::Rehearsal(_) | ExtendError::NotCopied { .. } | ExtendError::Blocked { .. } => Exit::Storage,
            ExtendError::NotProven { .. } => Exit::Unreachable,
            ExtendError::Stopped => Exit::Failed,
        };
        let hint = error.hint().to_owned();
        Self::new(exit, error).hint(hint)
    }
}

impl From<RescueError> for Failure {
    fn from(error: RescueError) -> Self {
        let exit = match error {
            RescueError::Run(error) => return error.into(),
            RescueError::NotInFiles { .. } | RescueError::Unusable(_) => Exit::Input,
            RescueError::Commit(_) | RescueError::SetAside { .. } | RescueError::NotCopied { .. } => Exit::Storage,
            RescueError::NotProven { .. } => Exit::Unreachable,
            RescueError::Stopped => Exit::Failed,
        };
        let hint = error.hint().to_owned();
        Self::new(exit, error).hint(hint)
    }
}

impl From<EnrollFailure> for Failure {
    fn from(error: EnrollFailure) -> Self {
        let exit = match &error {
            EnrollFailure::Enroll(error) => of_enrollment(error),
            EnrollFailure::NoPlace => Exit::Input,
            EnrollFailure::Store(error) => of_store(error),
            EnrollFailure::Endpoints { .. } => Exit::Storage,
            EnrollFailure::Daemon(_) => Exit::Busy,
            EnrollFailure::ByDaemon { .. } => Exit::Failed,
        };
        let hint = error.hint().to_owned();
        Self::new(exit, error).hint(hint)
    }
}

fn of_enrollment(error: &EnrollError) -> Exit {
    match error {
        EnrollError::Token(_)
        | EnrollError::Issuer(_)
        | EnrollError::Csr(_)
        | EnrollError::Subject(_)
        | EnrollError::Key(_)
        | EnrollError::OtherRouter { .. }
        | EnrollError::Unreadable { .. }
        | EnrollError::NotOurs { .. } => Exit::Input,
        EnrollError::Http(error) => of_http(error),
        EnrollError::Presented(_) | EnrollError::Cas(_) | EnrollError::Bundle(_) | EnrollError::Answer => {
            Exit::Unreachable
        }
        EnrollError::Refused { status, .. } if *status >= 500 || *status == 429 => Exit::Unreachable,
        EnrollError::Refused { .. } => Exit::Refused,
        EnrollError::Commit(_) => Exit::Storage,
        EnrollError::Issued(_) | EnrollError::Overtaken => Exit::Failed,
    }
}

impl From<AdminError> for Failure {
    fn from(error: AdminError) -> Self {
        let hint = match &error {
            AdminError::NotRunning { .. } => "start the router: `exuvia router run CONFIG`",
            AdminError::NotPermitted { .. } => "only the user that runs the router may open its socket",
            AdminError::HungUp | AdminError::Io(_) => "the router may have ended; see `exuvia status CONFIG`",
            AdminError::Unexpected(_) => "run the command from the same release as the router",
        };
        Self::new(Exit::Unreachable, error).hint(hint)
    }
}

impl From<RegisterError> for Failure {
    fn from(error: RegisterError) -> Self {
        let exit = of_register(&error);
        Self::new(exit, error)
    }
}

fn of_register(error: &RegisterError) -> Exit {
    match error {
        RegisterError::InUse { .. } => Exit::Busy,
        RegisterError::Absent { .. }
        | RegisterError::Exists { .. }
        | RegisterError::Foreign { .. }
        | RegisterError::NotABackup { .. } => Exit::Input,
        RegisterError::CommitFailed { .. }
        | RegisterError::ReadFailed { .. }
        | RegisterError::Newer { .. }
        | RegisterError::SchemaDiffers { .. }
        | RegisterError::Damaged { .. }
        | RegisterError::DamagedRouter { .. }
        | RegisterError::File { .. } => Exit::Storage,
        _ => Exit::Failed,
    }
}

impl From<DaemonError> for Failure {
    fn from(error: DaemonError) -> Self {
        let exit = match &error {
            DaemonError::File { .. } | DaemonError::Identity(_) => Exit::Input,
            DaemonError::Register(error) => of_register(error),
            DaemonError::Listen { source, .. } => of_listen(source),
            _ => Exit::Failed,
        };
        let hint = match &error {
            DaemonError::File { .. } | DaemonError::Identity(_) => {
                Some("correct the file, or the configuration that names it")
            }
            DaemonError::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
                Some("stop the other process, or change the port in the configuration")
            }
            DaemonError::Listen { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("ports below 1024 need a capability; choose another port")
            }
            DaemonError::Listen { .. } => Some("name an address of this machine"),
            _ => None,
        };
        let failure = Self::new(exit, error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

impl From<InitError> for Failure {
    fn from(error: InitError) -> Self {
        let exit = match &error {
            InitError::Option(_) => Exit::Usage,
            InitError::Password(_) | InitError::Complete(_) | InitError::NotEmpty { .. } => Exit::Input,
            InitError::AtWork(_) => Exit::Busy,
            InitError::File { .. } => Exit::Storage,
            InitError::Register(error) => of_register(error),
            _ => Exit::Failed,
        };
        Self::new(exit, error)
    }
}

impl From<ResetError> for Failure {
    fn from(error: ResetError) -> Self {
        let exit = match &error {
            ResetError::Password(_) => Exit::Input,
            ResetError::Register(error) => of_register(error),
            _ => Exit::Failed,
        };
        Self::new(exit, error)
    }
}

//! Faults by name, and one fault at one moment.

/// Names of the variants, for plans as text.
macro_rules! named {
    ($(#[doc = $top:literal])+ $name:ident { $( $(#[doc = $doc:literal])+ $variant:ident = $text:literal ),* $(,)? }) => {
        $(#[doc = $top])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $( $(#[doc = $doc])+ $variant ),* }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// As a plan spells it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }

            /// The one with this name.
            pub fn of_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|known| known.name() == name)
            }
        }
    };
}
pub(crate) use named;

named! {
    /// One thing that may strike at any time.
    Fault {
        /// kill -9 of a router; it starts again after a while.
        KillRouter = "kill-router",
        /// A router's machine loses power.
        PowerCut = "power-cut",
        /// A router loses power inside one of its next disk operations.
        PowerCutInDiskOperation = "power-cut-in-disk-operation",
        /// kill -9 of a controller.
        KillController = "kill-controller",
        /// A commit of the register fails.
        FailCommit = "fail-commit",
        /// No message passes between a router and the controllers.
        Partition = "partition",
        /// Messages to the router are lost.
        OneWay = "one-way",
        /// A router's disk is full for a while.
        DiskFull = "disk-full",
        /// A router's disk is read-only for a while.
        DiskReadOnly = "disk-read-only",
        /// One disk operation of a router fails.
        DiskError = "disk-error",
        /// A bit of a router's manifest flips, on the medium.
        RotManifest = "rot-manifest",
        /// A router's wall clock jumps, and jumps back after a while.
        ClockStep = "clock-step",
        /// A router's machine is suspended.
        Suspend = "suspend",
        /// The register is restored from the last backup.
        Restore = "restore",
        /// An operator asks for a renewal.
        RenewNow = "renew-now",
        /// An operator revokes a router, and has it enrolled anew after a while.
        Revoke = "revoke",
        /// An operator has a router enrolled anew.
        EnrollAnew = "enroll-anew",
        /// An operator switches a router off, and on again after a while.
        Disable = "disable",
        /// An operator vouches for the leaf that a router serves.
        Readmit = "readmit",
        /// Somebody says hello with one router's leaf and another one's name.
        Impostor = "impostor",
        /// Somebody else writes to the configured paths of a router whose identity is copied there: old files, torn ones, another identity.
        ForeignFiles = "foreign-files",
    }
}

impl Fault {
    /// Does it strike the controllers, and all routers through them?
    pub const fn is_of_controllers(self) -> bool {
        matches!(self, Self::KillController | Self::FailCommit | Self::Restore)
    }
}

/// Whom a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// The router with this number.
    Router(u64),
    /// A controller, or the register behind them.
    Controllers,
}

/// One fault at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strike {
    /// When, in milliseconds since the world began.
    pub at_ms: u64,
    /// Whom.
    pub target: Target,
    /// What.
    pub fault: Fault,
    /// How long, in milliseconds, where it lasts.
    pub lasts_ms: u64,
    /// Decides what else there is to decide: which operation, which errno, how far the clock jumps, what a crash leaves.
    pub luck: u64,
}

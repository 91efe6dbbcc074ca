//! What OpenZiti has no words for: how far each router's identity is, who is due when, what happened, and the orders
//! renew, revoke, readmit and re-key.
//!
//! Instants are Unix time, UTC; every number's unit is the end of its name.

use crate::Secret;

words! {
    /// Which of OpenZiti's two kinds a router is.
    RouterKind {
        /// An edge router.
        Edge = "edge",
        /// A transit router.
        Transit = "transit",
    }

    /// May the router connect at all?
    StandingName {
        /// Yes, with an admitted leaf.
        Active = "active",
        /// Not while it is switched off; its leaves are kept.
        Disabled = "disabled",
        /// No more; only re-enrollment brings it back.
        Revoked = "revoked",
    }

    /// How far a router's renewal is, as the controller sees it. The router's own phases are finer.
    Progress {
        /// Its enrollment token was not used yet.
        AwaitingEnrollment = "awaiting_enrollment",
        /// It got its first leaf and has not connected with it yet.
        Enrolled = "enrolled",
        /// The leaf that it uses is good for a while.
        Steady = "steady",
        /// The leaf that it uses has passed two thirds of its life, and it has asked for nothing newer.
        Due = "due",
        /// It was given a newer leaf and has not said that it has it.
        Pending = "pending",
        /// It has said that it has the newer leaf and has not connected with it yet.
        Confirmed = "confirmed",
        /// No leaf of it is admitted any more: it cannot come back by itself.
        Lapsed = "lapsed",
        /// It is switched off.
        Disabled = "disabled",
        /// Its identity was withdrawn.
        Revoked = "revoked",
    }

    /// How far one leaf has come.
    LeafStageName {
        /// Issued; its holder has not said that it has it.
        Pending = "pending",
        /// Its holder has said that it has it.
        Confirmed = "confirmed",
        /// Presented in an admitted handshake.
        Used = "used",
    }

    /// What became of an older leaf that came back after a newer one was used.
    ForkVerdictName {
        /// It was still admitted, and nothing that was admitted then is retired before its end.
        Frozen = "frozen",
        /// It was out already and was refused.
        Refused = "refused",
    }

    /// What happened. Where the audit trail has a word for it, it is the same word.
    EventKind {
        /// A router was made.
        Created = "created",
        /// A router was changed by an operator.
        Changed = "changed",
        /// A router was deleted.
        Deleted = "deleted",
        /// Leaves were signed for an enrollment.
        Enrolled = "enrolled",
        /// Leaves were signed for an extension.
        Issued = "issued",
        /// A router said that it has its newest leaf.
        Confirmed = "confirmed",
        /// A leaf was presented for the first time.
        FirstUse = "first-use",
        /// A leaf that the restored register did not know was presented and believed.
        ReadmittedAfterRestore = "readmitted-after-restore",
        /// A leaf was refused.
        Refused = "admission-refused",
        /// An extension was refused.
        RequestRefused = "extension-refused",
        /// An operator asked for a new enrollment.
        ReEnrolled = "re-enrolled",
        /// An operator withdrew the router's identity.
        Revoked = "revoked",
        /// An operator switched the router off.
        Disabled = "disabled",
        /// An operator switched the router on.
        Enabled = "enabled",
        /// An operator vouched for a leaf.
        Readmitted = "readmitted",
        /// An operator called an older leaf that came back a crash.
        ForkDismissed = "fork-dismissed",
        /// A control channel came up.
        Connected = "connected",
        /// A control channel went down.
        Disconnected = "disconnected",
        /// An older leaf came back beside a newer one: a crash, or a copied disk.
        Alarm = "alarm",
        /// A router was advised when to renew.
        Advised = "advised",
        /// The stream skipped events because its reader was slow.
        Skipped = "skipped",
    }
}

views! { "snake_case":
    /// A router as its operator sees it.
    RouterView {
        /// Its id: the common name of its client leaf.
        id: String,
        /// Its name.
        name: String,
        /// Edge or transit.
        kind: RouterKind,
        /// May it connect at all?
        standing: StandingName,
        /// How far its renewal is.
        progress: Progress,
        /// How often it was enrolled anew or revoked, counted from 1.
        epoch: u64,
        /// How long it stays admissible if it restarted now, in seconds: the life left on the longest admitted leaf that
        /// it is known to hold. 0 means: do not touch it, mend it.
        lockout_s: u64,
        /// NotAfter of the client leaf last used.
        client_not_after_unix_s: Option<i64>,
        /// NotAfter of the server leaf that was signed with it.
        server_not_after_unix_s: Option<i64>,
        /// When its next renewal falls due, before jitter.
        renew_due_unix_s: Option<i64>,
        /// Position of the leaf last used.
        last_used_seq: Option<u64>,
        /// When that leaf was first used.
        first_use_unix_s: Option<i64>,
        /// Leaves of this enrollment that may still matter, oldest first.
        leaves: Vec<LeafView>,
        /// Its control channel, if it is up.
        connection: Option<ConnectionView>,
        /// When its unused enrollment token ends.
        token_expires_unix_s: Option<i64>,
        /// Set after a restore: when the copy of the register was taken.
        restored_from_unix_s: Option<i64>,
        /// An older leaf came back after a newer one was used: a crash, or a copied disk. Until an operator decides.
        fork: Option<ForkView>,
    }

    /// Two holders of one router's leaves, as far as the register can see. Readmit the leaf that is right, which withdraws the other ones, or
    /// dismiss it if it was a crash.
    ForkView {
        /// SHA-256 of the older leaf that came back, hex.
        older_sha256: String,
        /// From where it came.
        older_from: Option<String>,
        /// Position of the newer leaf that was in use by then.
        newer_seq: u64,
        /// Where that one is connected, or was first used.
        newer_from: Option<String>,
        /// When it was noticed.
        at_unix_s: i64,
        /// What was made of it.
        verdict: ForkVerdictName,
    }

    /// One pair of leaves.
    LeafView {
        /// Its position; newer is greater.
        seq: u64,
        /// SHA-256 of the client leaf's DER, hex.
        fingerprint_sha256: String,
        /// SHA-256 of its public key, hex.
        key_sha256: String,
        /// How far it has come.
        stage: LeafStageName,
        /// Would a router that presents it now be admitted?
        is_admitted: bool,
        /// When it was issued.
        issued_unix_s: i64,
        /// Its NotBefore.
        not_before_unix_s: i64,
        /// Its NotAfter.
        not_after_unix_s: i64,
        /// NotAfter of the server leaf.
        server_not_after_unix_s: i64,
    }

    /// A control channel.
    ConnectionView {
        /// Where it comes from.
        remote_address: String,
        /// When it came up.
        since_unix_s: i64,
        /// What the router runs.
        version: Option<String>,
        /// Connections in its group.
        underlays: u64,
        /// SHA-256 of the client leaf that its newest connection presented, hex.
        leaf_sha256: Option<String>,
        /// Does the router understand renewal windows?
        takes_advice: bool,
    }

    /// Who is due when.
    PipelineView {
        /// When this was computed.
        at_unix_s: i64,
        /// Routers by progress.
        counts: std::collections::BTreeMap<String, u64>,
        /// Routers whose renewal is near or stuck, the most pressing first.
        routers: Vec<PipelineEntry>,
        /// What signs.
        issuer: IssuerView,
        /// The re-key in force.
        campaign: Option<CampaignView>,
    }

    /// One router in the pipeline.
    PipelineEntry {
        /// Its id.
        id: String,
        /// Its name.
        name: String,
        /// How far its renewal is.
        progress: Progress,
        /// How long it stays admissible if it restarted now, in seconds.
        lockout_s: u64,
        /// When its next renewal falls due, before jitter.
        renew_due_unix_s: Option<i64>,
        /// NotAfter of the client leaf last used.
        client_not_after_unix_s: Option<i64>,
        /// Has it a control channel?
        is_connected: bool,
    }

    /// The signing certificate.
    IssuerView {
        /// Its subject.
        subject: String,
        /// When its chain ends.
        not_after_unix_s: i64,
        /// Life of the leaves that it signs, in seconds.
        leaf_life_s: u64,
        /// What to do about it, and until when.
        warning: Option<String>,
    }

    /// An order to re-key the whole fleet.
    CampaignRequest {
        /// How long the routers may take, in seconds. 0 means all at once.
        within_s: u64,
    }

    /// A re-key of the whole fleet.
    CampaignView {
        /// When it was ordered: leaves issued before this are to be replaced.
        ordered_at_unix_s: i64,
        /// When the last router should have renewed.
        until_unix_s: i64,
        /// Connected routers that were told at once.
        told: u64,
        /// Routers with a leaf from before the order.
        outstanding: u64,
    }

    /// What became of an order to renew.
    RenewView {
        /// Was the router told? If not, it learns of it when it connects next.
        told: bool,
        /// From when the renewal is welcome.
        from_unix_s: i64,
        /// Until when the renewal is welcome.
        to_unix_s: i64,
    }

    /// A leaf that the operator vouches for: one of the two.
    ReadmitRequest {
        /// SHA-256 of a leaf that the register still knows, hex.
        fingerprint_sha256: Option<String>,
        /// PEM of a leaf that the register may have forgotten.
        cert_pem: Option<String>,
    }

    /// Something that happened. On the stream, one JSON object per event.
    EventView {
        /// Its number; grows by one, starts anew with the controller.
        seq: u64,
        /// When.
        at_unix_ms: i64,
        /// What.
        kind: EventKind,
        /// Which router.
        router_id: Option<String>,
        /// Which leaf.
        leaf_seq: Option<u64>,
        /// A sentence, if there is more to say.
        detail: Option<String>,
    }

    /// A part of a router's audit trail, newest first. It outlives the router.
    AuditPageView {
        /// The entries.
        entries: Vec<AuditView>,
        /// What to pass as `before` to see older ones; absent when there are none.
        next_before: Option<u64>,
    }

    /// One line of a router's audit trail.
    AuditView {
        /// Its number; grows over the whole register, never used twice.
        seq: u64,
        /// When it first happened.
        at_unix_ms: i64,
        /// When it last happened, where a refusal was repeated.
        last_at_unix_ms: i64,
        /// How often it happened in between.
        count: u64,
        /// Who caused it: `router`, `controller` or `admin:NAME`.
        actor: String,
        /// What happened.
        event: String,
        /// The rest.
        detail: serde_json::Value,
    }

    /// A new enrollment token.
    EnrollmentView {
        /// The token to give to the router.
        jwt: Secret,
        /// When it ends.
        expires_unix_s: i64,
    }

    /// Is the controller well?
    HealthView {
        /// `ok`, or what is wrong.
        status: String,
        /// Seconds since it started.
        uptime_s: u64,
        /// Version of the controller.
        version: String,
    }

    /// Can the controller serve?
    ReadyView {
        /// Every part that must work, and what it says.
        parts: std::collections::BTreeMap<String, String>,
        /// Do all of them work?
        is_ready: bool,
    }
}

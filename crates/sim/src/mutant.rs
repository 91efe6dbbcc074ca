//! Our own program with one mistake in it. The worlds must find each of them.

use crate::plan::named;

named! {
    /// One mistake.
    Mutant {
        /// Files are never synced.
        NoFileSync = "no-file-sync",
        /// Folders are never synced.
        NoFolderSync = "no-folder-sync",
        /// 20303 leaves before the new generation is staged.
        VerifyBeforeStage = "verify-before-stage",
        /// The new generation is thrown away when the answer to 20303 is an error or does not come, as OpenZiti does.
        ForgetOnLostAnswer = "forget-on-lost-answer",
        /// The older generations are thrown away as soon as a newer one was admitted.
        EraseOnPromotion = "erase-on-promotion",
        /// The controller admits one leaf: the one that was confirmed last.
        SingleFingerprint = "single-fingerprint",
        /// The controller answers before its register has committed.
        AnswerBeforeDurable = "answer-before-durable",
        /// The controller takes any leaf that it issued for the router that the hello names.
        AnyLeafAnyName = "any-leaf-any-name",
        /// The router begins its next attempt, and dials, without any back-off.
        NoBackoff = "no-backoff",
        /// An identity that somebody else laid at the configured paths takes the place of all that there was.
        ForeignFilesDisplace = "foreign-files-displace",
    }
}

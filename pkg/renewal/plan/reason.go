package plan

// Reason says in one word why a plan is what it is. The values are stable: they appear in status, logs and metrics.
type Reason string

// The reasons, in the order in which [Decide] looks at them.
const (
	ReasonClock        Reason = "clock"              // the machine's clock contradicts the active certificate
	ReasonNeverIssued  Reason = "never-issued"       // there is no certificate yet
	ReasonDamaged      Reason = "damaged"            // the active pair is unreadable or does not match
	ReasonCompromised  Reason = "key-compromised"    // others may know the private key of the active certificate
	ReasonRevoked      Reason = "revoked"            // the active certificate was revoked
	ReasonNames        Reason = "names-changed"      // the wanted identifiers differ from the certificate's
	ReasonIssuer       Reason = "issuer-changed"     // the active certificate comes from an issuer that is no longer listed
	ReasonKeyType      Reason = "key-type"           // another key type is wanted
	ReasonProfile      Reason = "profile"            // another ACME profile is wanted
	ReasonARI          Reason = "ari"                // the time drawn in the CA's window is reached
	ReasonLastTenth    Reason = "last-tenth"         // a tenth of the lifetime is left; nothing may delay any more
	ReasonRenewBefore  Reason = "renew-before"       // 30 days or fewer remain, scaled for short lifetimes
	ReasonForced       Reason = "forced"             // an operator asked for it
	ReasonBackoff      Reason = "backoff"            // due, but the last try failed and its retry time lies ahead
	ReasonWindow       Reason = "maintenance-window" // due, but put off until the maintenance window opens
	ReasonIssueLimit   Reason = "issuance-limit"     // due, but issued twice within 24 hours
	ReasonHeld         Reason = "held"               // a newer version waits for the operator: a client would not trust it
	ReasonPinned       Reason = "pinned"             // a rollback keeps an earlier version live until the operator says otherwise
	ReasonNotice       Reason = "notice"             // a newer version waits until its new issuer was announced long enough
	ReasonActivate     Reason = "not-active"         // a newer version is stored but not live
	ReasonNotInstalled Reason = "not-installed"      // a target does not have the active version
	ReasonDrift        Reason = "verify"             // a target's hourly verification is due
	ReasonHook         Reason = "hook"               // the hook after a new version has not succeeded yet
	ReasonRevoke       Reason = "revocation"         // the CA has yet to revoke a version
	ReasonAdopt        Reason = "adopt"              // another node obtained a newer version
	ReasonFollow       Reason = "follow"             // a newer version is here; another node installs it first
	ReasonPublish      Reason = "publish"            // the fleet does not have the version that is here
	ReasonResume       Reason = "pending-order"      // a node that is gone left a pending order
	ReasonElsewhere    Reason = "elsewhere"          // due, but another node is working on it
	ReasonTurn         Reason = "not-our-turn"       // due, but another node comes first
	ReasonSuperseded   Reason = "superseded"         // due, but this node's configuration is older than the fleet's
	ReasonStoreAway    Reason = "store-away"         // due, but the fleet's store cannot be used
	ReasonNothing      Reason = "nothing-to-do"      // until Next
)

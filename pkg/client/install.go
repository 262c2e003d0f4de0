package client

import "context"

// Installs changes what servers serve, without asking a CA.
type Installs interface {
	// Install installs the active version at every target again, or takes it away; see [InstallRequest].
	Install(ctx context.Context, r InstallRequest, progress func(Progress)) (Report, error)
	// Preview says what a renewal of certificates would do now, and shows every file that it would change.
	Preview(ctx context.Context, r PreviewRequest) (Preview, error)
	// RunStaging orders certificates at the staging directories of their CAs. Nothing of it is stored or installed.
	RunStaging(ctx context.Context, r StagingRequest, progress func(Progress)) (Report, error)
	// Forget deletes all versions and keys of a certificate that is not in the configuration any more.
	Forget(ctx context.Context, r ForgetRequest) error
}

// ForgetRequest names a certificate that was taken out of the configuration.
type ForgetRequest struct {
	Certificate string `json:"certificate"`
	Check       bool   `json:"check,omitempty"` // only say whether it can be deleted
	Force       bool   `json:"force,omitempty"` // although files that acmed installed are still there
}

// InstallRequest names a certificate.
type InstallRequest struct {
	Certificate string `json:"certificate"`
	Undo        bool   `json:"undo,omitempty"` // undo every change at its targets, and leave them alone afterwards
}

// PreviewRequest asks about some certificates by name, or about all.
type PreviewRequest struct {
	Names []string `json:"names,omitempty"`
	Force bool     `json:"force,omitempty"` // as if a new certificate were ordered although none is due
}

// StagingRequest asks for some certificates by name, or for all.
type StagingRequest struct {
	Names []string `json:"names,omitempty"`
}

// Preview is what a renewal would do.
type Preview struct {
	Version      int                  `json:"version"`
	Certificates []CertificatePreview `json:"certificates"`
}

// CertificatePreview is what would happen to one certificate.
type CertificatePreview struct {
	Certificate string          `json:"certificate"`
	Reason      string          `json:"reason"`
	Message     string          `json:"message"`
	Order       bool            `json:"order"` // a new certificate would be ordered; in the diffs, one of acmed's own stands in for it
	Targets     []TargetPreview `json:"targets,omitempty"`
}

// TargetPreview is what would change at one target.
type TargetPreview struct {
	ID    string   `json:"id"`
	Diff  string   `json:"diff,omitempty"`  // unified; empty when no file would change, or none can be shown
	Error string   `json:"error,omitempty"` // why it would fail
	Notes []string `json:"notes,omitempty"` // what an operator should know although it would work
	Off   bool     `json:"off,omitempty"`   // an operator took it away: it is left alone
}

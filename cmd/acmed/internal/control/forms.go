package control

import (
	"context"

	"github.com/acmed/acmed/pkg/client"
)

// The forms of requests and answers, and what asks for them, are those of package client, which is public.
//
//nolint:revive // package client documents them
type (
	Account            = client.Account
	AccountAction      = client.AccountAction
	AccountRequest     = client.AccountRequest
	Accounts           = client.Accounts
	ActivateRequest    = client.ActivateRequest
	Backend            = client.Backend
	CertificatePreview = client.CertificatePreview
	Chain              = client.Chain
	ChainRow           = client.ChainRow
	Client             = client.Client
	ClientCell         = client.ClientCell
	Clients            = client.Clients
	Code               = client.Code
	Condition          = client.Condition
	Daemon             = client.Daemon
	Diagnosis          = client.Diagnosis
	Doctor             = client.Doctor
	DoctorRequest      = client.DoctorRequest
	Error              = client.Error
	EventsRequest      = client.EventsRequest
	Examiner           = client.Examiner
	Finding            = client.Finding
	ForgetRequest      = client.ForgetRequest
	History            = client.History
	InstallRequest     = client.InstallRequest
	Installs           = client.Installs
	IssuerDiagnosis    = client.IssuerDiagnosis
	KeyPin             = client.KeyPin
	Log                = client.Log
	LogRequest         = client.LogRequest
	StagingRequest     = client.StagingRequest
	Line               = client.Line
	NameDiagnosis      = client.NameDiagnosis
	NotifierDelivery   = client.NotifierDelivery
	Notifiers          = client.Notifiers
	NotifyReport       = client.NotifyReport
	NotifyRequest      = client.NotifyRequest
	Operator           = client.Operator
	Outcome            = client.Outcome
	Preview            = client.Preview
	PreviewRequest     = client.PreviewRequest
	Progress           = client.Progress
	RenewRequest       = client.RenewRequest
	Report             = client.Report
	Result             = client.Result
	Revocation         = client.Revocation
	RevokeRequest      = client.RevokeRequest
	Serving            = client.Serving
	Status             = client.Status
	StatusRequest      = client.StatusRequest
	StoredVersion      = client.StoredVersion
	TargetPreview      = client.TargetPreview
	Trust              = client.Trust
	TrustRequest       = client.TrustRequest
	VersionRequest     = client.VersionRequest
	VersionState       = client.VersionState
	Versions           = client.Versions
)

// Its constants.
const (
	AccountDeactivate = client.AccountDeactivate
	AccountRecover    = client.AccountRecover
	AccountRollover   = client.AccountRollover
	AccountShow       = client.AccountShow
	AccountUpdate     = client.AccountUpdate
	CodeConfig        = client.CodeConfig
	CodeInternal      = client.CodeInternal
	CodePartial       = client.CodePartial
	CodePermission    = client.CodePermission
	CodeSlow          = client.CodeSlow
	CodeStopping      = client.CodeStopping
	CodeUnknown       = client.CodeUnknown
	CodeUsage         = client.CodeUsage
	MaxRequest        = client.MaxRequest
	OutcomeFailed     = client.OutcomeFailed
	OutcomeLimited    = client.OutcomeLimited
	OutcomeObtained   = client.OutcomeObtained
	OutcomeScheduled  = client.OutcomeScheduled
	OutcomeTested     = client.OutcomeTested
	OutcomeUnchanged  = client.OutcomeUnchanged
	OutcomeUpdated    = client.OutcomeUpdated
	OutcomeWaiting    = client.OutcomeWaiting
	Remembered        = client.Remembered
	Version           = client.Version
	VersionActive     = client.VersionActive
	VersionEarlier    = client.VersionEarlier
	VersionEnded      = client.VersionEnded
	VersionHeld       = client.VersionHeld
	VersionNotice     = client.VersionNotice
	VersionPinned     = client.VersionPinned
	VersionRevoked    = client.VersionRevoked
	VersionWaiting    = client.VersionWaiting
)

// ErrNoDaemon is that of package client.
var ErrNoDaemon = client.ErrNoDaemon

// Forbidden is that of package client.
func Forbidden(uid int) *Error { return client.Forbidden(uid) }

// Dial is that of package client.
func Dial(ctx context.Context, path string) (*Client, error) { return client.Dial(ctx, path) }

package etcd

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/fleet"
)

// failure turns an error of the client into one of the fleet. Changes says that the call may have taken effect unless the
// cluster refused it.
func failure(err error, changes bool) error {
	err = rpctypes.Error(err)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		return fleet.ErrNoLease
	case errors.Is(err, rpctypes.ErrCompacted), errors.Is(err, rpctypes.ErrFutureRev):
		return fleet.ErrCompacted
	}
	code, refused, text := classify(err)
	return &certs.LedgerError{Code: code, Unknown: changes && !refused, Err: fmt.Errorf("%s: %w", text, err)}
}

// classify tells what kind of failure it is, whether the cluster refused the call before it did anything, and what to say.
func classify(err error) (code advice.Code, refused bool, text string) {
	grpcCode := codeOf(err)
	switch {
	case errors.Is(err, rpctypes.ErrNoSpace):
		return advice.StoreFull, true, "etcd has no space left and accepts no changes; compact and defragment it, then clear its alarm"
	case errors.Is(err, rpctypes.ErrPermissionDenied), errors.Is(err, rpctypes.ErrUserEmpty), errors.Is(err, rpctypes.ErrAuthFailed),
		errors.Is(err, rpctypes.ErrUserNotFound), grpcCode == codes.PermissionDenied, grpcCode == codes.Unauthenticated:
		return advice.StoreDenied, true, "etcd denied this node access; check the roles of the user named in cert_file"
	case isAny(err, rpctypes.ErrNoLeader, rpctypes.ErrLeaderChanged, rpctypes.ErrTimeout, rpctypes.ErrTimeoutDueToLeaderFail,
		rpctypes.ErrTimeoutDueToConnectionLost, rpctypes.ErrTimeoutWaitAppliedIndex, rpctypes.ErrUnhealthy, rpctypes.ErrNotLeader):
		return advice.StoreNoQuorum, false, "etcd has no leader or lost its quorum"
	case grpcCode == codes.InvalidArgument:
		return advice.StoreUnreachable, true, "etcd refused the request"
	case errors.Is(err, context.DeadlineExceeded), grpcCode == codes.DeadlineExceeded:
		return advice.StoreUnreachable, false, "etcd did not answer in time"
	}
	return advice.StoreUnreachable, false, "etcd cannot be reached"
}

func codeOf(err error) codes.Code {
	var known rpctypes.EtcdError
	if errors.As(err, &known) {
		return known.Code()
	}
	return status.Code(err)
}

func isAny(err error, list ...error) bool {
	for _, one := range list {
		if errors.Is(err, one) {
			return true
		}
	}
	return false
}

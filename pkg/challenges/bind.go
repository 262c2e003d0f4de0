package challenges

import (
	"errors"
	"fmt"
	"syscall"
)

// Process is a program of this machine that holds a port.
type Process struct {
	Name string `json:"name"` // as the kernel shows it: printable ASCII, at most 15 characters
	PID  int    `json:"pid"`
}

// String returns the name with the process ID.
func (p Process) String() string { return fmt.Sprintf("%s (pid %d)", p.Name, p.PID) }

// BindError says that a responder could not listen. It is no fault of the name that is to be validated and no request
// was sent to the CA: another solver may be tried at once.
type BindError struct {
	Addr   string
	Holder *Process // who listens there already; nil when nobody does or it cannot be told
	Err    error
}

// Error names the address, and the process that holds it where that is known.
func (e *BindError) Error() string {
	switch {
	case e.Holder != nil:
		return fmt.Sprintf("cannot listen on %s: %s is listening there", e.Addr, e.Holder)
	case errors.Is(e.Err, syscall.EADDRINUSE):
		return fmt.Sprintf("cannot listen on %s: another process is listening there ('acmed doctor' as root names it)", e.Addr)
	case errors.Is(e.Err, syscall.EACCES):
		return fmt.Sprintf("cannot listen on %s: %v (ports below 1024 need CAP_NET_BIND_SERVICE or a systemd socket)", e.Addr, e.Err)
	}
	return fmt.Sprintf("cannot listen on %s: %v", e.Addr, e.Err)
}

// Unwrap returns the error of the operating system.
func (e *BindError) Unwrap() error { return e.Err }

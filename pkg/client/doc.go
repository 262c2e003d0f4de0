// Package client asks a running acmed over its control socket, as the commands of acmed do: HTTP/1.1 with JSON over a unix
// socket, which docs/CONTROL.md and docs/openapi.yaml specify.
//
//	c, err := client.Dial(ctx, "/run/acmed/acmed.sock")
//	if err != nil {
//		return err // ErrNoDaemon when none runs
//	}
//	status, err := c.Status(ctx, client.StatusRequest{Names: []string{"www"}})
//
// It promises that within [Version] 1 fields, values and functions are added, and none is changed or removed. A program that
// was built with an older package works with a newer daemon: what it does not know, it leaves out. With a newer package and
// an older daemon, a request with a field that the daemon does not know is refused with [CodeUsage]. What the daemon answers is an
// [Error] with a code for programs; other errors are those of the connection. [Backend] and its parts may get more methods:
// embed the interface where you implement it.
package client

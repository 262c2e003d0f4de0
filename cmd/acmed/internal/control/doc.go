// Package control is how the command line speaks to the daemon: HTTP/1.1 with JSON over a unix socket.
//
// It owns the socket, its permissions and the form of requests and answers, which docs/CONTROL.md specifies. It promises
// that a stranger on the machine gets nothing, that a slow or hostile client costs a bounded amount of memory and time,
// and that a client that goes away never cancels an order. It does nothing by itself: a [Backend] answers, the same one
// that the command line uses in its own process when no daemon runs. There is no TCP form of it.
package control

package dns01

// ProtocolVersion is the version of the lines between acmed and acmed-dns (docs/DNS-WORKER.md).
const ProtocolVersion = 1

// MaxLine is the longest line of the protocol in bytes, its newline included.
const MaxLine = 64 << 10

// Op says what a [Request] asks for.
type Op string

// The requests: one hello, then any number of the others.
const (
	OpHello   Op = "hello"
	OpPresent Op = "present"
	OpCleanUp Op = "cleanup"
)

// Request is one line from acmed to its worker.
type Request struct {
	ID     uint64  `json:"id"`
	Op     Op      `json:"op"`
	Hello  *Hello  `json:"hello,omitempty"`
	Record *Record `json:"record,omitempty"`
}

// Hello is the first request. The worker makes its provider when it gets one.
type Hello struct {
	Protocol  int      `json:"protocol"`
	Provider  string   `json:"provider"`
	Resolvers []string `json:"resolvers,omitempty"` // host:port; none: those of the system
}

// Response is one line from a worker to acmed: the answer to the request of the same ID, and to nothing else.
type Response struct {
	ID       uint64 `json:"id"`
	Error    string `json:"error,omitempty"` // empty: done
	Protocol int    `json:"protocol,omitempty"`
	Version  string `json:"version,omitempty"` // of the worker, for people
}

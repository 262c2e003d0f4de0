// Package e2e tests the real acmed-dns program. It builds it, which takes minutes when no provider was compiled before.
package e2e

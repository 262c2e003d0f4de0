package imports

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"hash"

	"github.com/acmed/acmed/pkg/certs"
)

// encryptedKey is EncryptedPrivateKeyInfo of RFC 5958 section 3 with the algorithm PBES2 of RFC 8018 section 6.2.
type encryptedKey struct {
	Algorithm struct {
		ID     asn1.ObjectIdentifier
		Params struct {
			KDF struct {
				ID     asn1.ObjectIdentifier
				Params struct {
					Salt       []byte
					Iterations int
					Length     int                      `asn1:"optional"`
					PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
				}
			}
			Cipher struct {
				ID asn1.ObjectIdentifier
				IV []byte
			}
		}
	}
	Data []byte
}

// maxIterations bounds the work for a key.
const maxIterations = 1 << 22

// decryptKey reads a private key that OpenSSL encrypted with AES in CBC mode. No error has any part of it.
func decryptKey(der, passphrase []byte) (crypto.Signer, error) {
	var k encryptedKey
	if rest, err := asn1.Unmarshal(der, &k); err != nil || len(rest) > 0 || !k.Algorithm.ID.Equal(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}) {
		return nil, errEncryption
	}
	block, err := k.block(passphrase)
	if err != nil {
		return nil, err
	}
	iv := k.Algorithm.Params.Cipher.IV
	if len(iv) != aes.BlockSize || len(k.Data) == 0 || len(k.Data)%aes.BlockSize != 0 {
		return nil, errEncryption
	}
	text := make([]byte, len(k.Data))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(text, k.Data)
	pad := int(text[len(text)-1])
	if pad < 1 || pad > aes.BlockSize {
		return nil, errors.New("the account key cannot be decrypted: wrong passphrase")
	}
	return parseKeyDER(text[:len(text)-pad])
}

var errEncryption = errors.New("the account key is encrypted in a form that is not supported")

// block is the cipher with the key that is derived from the passphrase.
func (k *encryptedKey) block(passphrase []byte) (cipher.Block, error) {
	kdf := k.Algorithm.Params.KDF.Params
	size := map[string]int{"2.16.840.1.101.3.4.1.2": 16, "2.16.840.1.101.3.4.1.22": 24, "2.16.840.1.101.3.4.1.42": 32}[k.Algorithm.Params.Cipher.ID.String()]
	prf := map[string]func() hash.Hash{"": sha1.New, "1.2.840.113549.2.7": sha1.New, "1.2.840.113549.2.9": sha256.New}[kdf.PRF.Algorithm.String()]
	if size == 0 || prf == nil || kdf.Iterations < 1 || kdf.Iterations > maxIterations {
		return nil, errEncryption
	}
	key, err := pbkdf2.Key(prf, string(passphrase), kdf.Salt, kdf.Iterations, size)
	if err != nil {
		return nil, errEncryption
	}
	return aes.NewCipher(key)
}

// parseKeyDER reads a private key in one of its DER forms. No error has any part of it.
func parseKeyDER(der []byte) (crypto.Signer, error) {
	return certs.ParseKey(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

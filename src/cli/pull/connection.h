// A byte stream to one origin: TCP, through a proxy when one is given, with TLS for https. Blocking, with a timeout.
// Certificates and the host's name are always verified (the system's store, or SSL_CERT_FILE and SSL_CERT_DIR).
#pragma once
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

namespace sotto::pull {

// Where to connect. `proxy_host` is "" without a proxy.
struct Endpoint {
  bool tls = false;
  std::string host;
  int port = 0;
  std::string proxy_host;
  int proxy_port = 0;
};

class Connection {
 public:
  // The error is the reason alone ("connection refused"); the caller says what it wanted.
  static Result<Connection> Open(const Endpoint& endpoint, int timeout_seconds);
  Connection(Connection&&) noexcept;
  Connection& operator=(Connection&&) = delete;
  ~Connection();

  // Bytes read, at most `size`; 0 at the end of the stream.
  Result<size_t> Read(char* out, size_t size);
  Status Write(std::string_view bytes);

 private:
  struct State;
  explicit Connection(std::unique_ptr<State> state);
  Status Tunnel(const Endpoint& endpoint);  // CONNECT through the proxy
  Status StartTls(const std::string& host);
  std::unique_ptr<State> state_;
};

}  // namespace sotto::pull

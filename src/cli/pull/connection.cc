#include "cli/pull/connection.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <netdb.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstring>

namespace sotto::pull {
namespace {

constexpr size_t kMaxTunnelReply = 16 * 1024;

std::string Reason(int error) {
  return error == EAGAIN || error == EWOULDBLOCK ? "no byte came in time" : std::strerror(error);
}

std::string TlsReason(SSL* ssl) {
  if (const long verdict = SSL_get_verify_result(ssl); verdict != X509_V_OK)
    return fmt::format("its certificate is not accepted ({})", X509_verify_cert_error_string(verdict));
  const unsigned long error = ERR_get_error();
  const char* text = error == 0 ? nullptr : ERR_reason_error_string(error);
  return text != nullptr ? fmt::format("TLS: {}", text) : errno != 0 ? Reason(errno) : "TLS: the stream broke off";
}

// One address: connects within the timeout and leaves the socket blocking, with that timeout on each call. Else -1.
int ConnectTo(const addrinfo& address, int timeout_seconds) {
  const int fd = ::socket(address.ai_family, address.ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, address.ai_protocol);
  if (fd < 0) return -1;
  int error = ::connect(fd, address.ai_addr, address.ai_addrlen) == 0 ? 0 : errno;
  if (error == EINPROGRESS) {
    pollfd wait{fd, POLLOUT, 0};
    int ready = 0;
    while ((ready = ::poll(&wait, 1, timeout_seconds * 1000)) < 0 && errno == EINTR) {}
    socklen_t size = sizeof error;
    if (ready <= 0)
      error = ready == 0 ? ETIMEDOUT : errno;
    else if (::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0)
      error = errno;
  }
  const timeval limit{timeout_seconds, 0};
  if (error == 0 &&
      (::fcntl(fd, F_SETFL, 0) != 0 || ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) != 0 ||
       ::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) != 0))
    error = errno;
  if (error == 0) return fd;
  ::close(fd);
  errno = error;
  return -1;
}

Result<int> Dial(const std::string& host, int port, int timeout_seconds) {
  addrinfo hints{}, *addresses = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_ADDRCONFIG;
  const int problem = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &addresses);
  if (problem != 0) return Failed(fmt::format("the name {} cannot be resolved ({})", host, gai_strerror(problem)));
  int fd = -1;
  for (const addrinfo* a = addresses; a != nullptr && fd < 0; a = a->ai_next) fd = ConnectTo(*a, timeout_seconds);
  const int error = errno;
  ::freeaddrinfo(addresses);
  if (fd < 0) return Failed(fmt::format("{} port {}: {}", host, port, Reason(error)));
  return fd;
}

}  // namespace

struct Connection::State {
  int fd = -1;
  SSL_CTX* context = nullptr;
  SSL* ssl = nullptr;
  ~State() {
    SSL_free(ssl);  // null is fine; no close_notify: nothing follows
    SSL_CTX_free(context);
    if (fd >= 0) ::close(fd);
  }
};

Connection::Connection(std::unique_ptr<State> state) : state_(std::move(state)) {}
Connection::Connection(Connection&&) noexcept = default;
Connection::~Connection() = default;

Result<Connection> Connection::Open(const Endpoint& endpoint, int timeout_seconds) {
  Connection c(std::make_unique<State>());
  const bool proxied = !endpoint.proxy_host.empty();
  c.state_->fd = TRY(Dial(proxied ? endpoint.proxy_host : endpoint.host, proxied ? endpoint.proxy_port : endpoint.port,
                          timeout_seconds));
  if (endpoint.tls && proxied) TRY(c.Tunnel(endpoint));
  if (endpoint.tls) TRY(c.StartTls(endpoint.host));
  return c;
}

Status Connection::Tunnel(const Endpoint& endpoint) {
  const std::string at = (endpoint.host.find(':') == endpoint.host.npos ? endpoint.host : "[" + endpoint.host + "]") +
                         fmt::format(":{}", endpoint.port);
  TRY(Write(fmt::format("CONNECT {} HTTP/1.1\r\nHost: {}\r\n\r\n", at, at)));
  std::string reply;
  char c = 0;
  while (!reply.ends_with("\r\n\r\n")) {  // byte by byte: what follows belongs to TLS
    if (reply.size() == kMaxTunnelReply || TRY(Read(&c, 1)) == 0) return Failed("the proxy's answer breaks off");
    reply += c;
  }
  const bool accepted = reply.size() > 12 && reply.starts_with("HTTP/1.") && reply.substr(8, 2) == " 2";
  return accepted ? Status() : Failed(fmt::format("the proxy {} refuses the connection", endpoint.proxy_host));
}

Status Connection::StartTls(const std::string& host) {
  State& s = *state_;
  errno = 0;
  ERR_clear_error();
  s.context = SSL_CTX_new(TLS_client_method());
  if (s.context == nullptr || SSL_CTX_set_default_verify_paths(s.context) != 1 ||
      SSL_CTX_set_min_proto_version(s.context, TLS1_2_VERSION) != 1)
    return Failed("TLS cannot be set up");
  SSL_CTX_set_verify(s.context, SSL_VERIFY_PEER, nullptr);
  s.ssl = SSL_new(s.context);
  if (s.ssl == nullptr || SSL_set_fd(s.ssl, s.fd) != 1) return Failed("TLS cannot be set up");
  // The certificate must be for this host: an address is compared as an address, a name as a name.
  X509_VERIFY_PARAM* expected = SSL_get0_param(s.ssl);
  const bool is_address = X509_VERIFY_PARAM_set1_ip_asc(expected, host.c_str()) == 1;
  if (!is_address && (SSL_set1_host(s.ssl, host.c_str()) != 1 || SSL_set_tlsext_host_name(s.ssl, host.c_str()) != 1))
    return Failed(fmt::format("{} is not a host name", host));
  return SSL_connect(s.ssl) == 1 ? Status() : Failed(TlsReason(s.ssl));
}

Result<size_t> Connection::Read(char* out, size_t size) {
  errno = 0;
  if (state_->ssl != nullptr) {
    ERR_clear_error();
    size_t got = 0;
    if (SSL_read_ex(state_->ssl, out, size, &got) == 1) return got;
    if (SSL_get_error(state_->ssl, 0) == SSL_ERROR_ZERO_RETURN) return size_t{0};
    return Failed(TlsReason(state_->ssl));
  }
  while (true) {
    const ssize_t got = ::recv(state_->fd, out, size, 0);
    if (got >= 0) return static_cast<size_t>(got);
    if (errno != EINTR) return Failed(Reason(errno));
  }
}

Status Connection::Write(std::string_view bytes) {
  errno = 0;
  while (!bytes.empty()) {
    size_t put = 0;
    if (state_->ssl != nullptr) {
      ERR_clear_error();
      if (SSL_write_ex(state_->ssl, bytes.data(), bytes.size(), &put) != 1) return Failed(TlsReason(state_->ssl));
    } else {
      const ssize_t sent = ::send(state_->fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent < 0 && errno == EINTR) continue;
      if (sent < 0) return Failed(Reason(errno));
      put = static_cast<size_t>(sent);
    }
    bytes.remove_prefix(put);
  }
  return {};
}

}  // namespace sotto::pull

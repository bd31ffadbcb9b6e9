#include "audio/fft.h"

#include <cmath>
#include <numbers>
#include <utility>

#include "base/check.h"

namespace sotto {
namespace {

// kLanes doubles as one value; the compiler splits it to what the machine has.
typedef double Lane __attribute__((vector_size(RealFft::kLanes * sizeof(double))));
struct Complex {
  Lane re, im;
};

inline __attribute__((always_inline)) Complex Add(const Complex& a, const Complex& b) {
  return {a.re + b.re, a.im + b.im};
}
inline __attribute__((always_inline)) Complex Sub(const Complex& a, const Complex& b) {
  return {a.re - b.re, a.im - b.im};
}
inline __attribute__((always_inline)) Complex Times(const Complex& a, double re, double im) {
  return {a.re * re - a.im * im, a.re * im + a.im * re};
}
inline __attribute__((always_inline)) Complex MinusI(const Complex& a) { return {a.im, -a.re}; }
inline __attribute__((always_inline)) Complex Scale(const Complex& a, double k) { return {a.re * k, a.im * k}; }

// y[0..R) = the transform of x[0..R), in place.
template <int R>
inline __attribute__((always_inline)) void Butterfly(Complex* x) {
  if constexpr (R == 2) {
    const Complex a = x[0];
    x[0] = Add(a, x[1]);
    x[1] = Sub(a, x[1]);
  } else if constexpr (R == 3) {
    constexpr double kSin = 0.86602540378443864676;
    const Complex s = Add(x[1], x[2]), d = MinusI(Scale(Sub(x[1], x[2]), kSin));
    const Complex m = Sub(x[0], Scale(s, 0.5));
    x[0] = Add(x[0], s);
    x[1] = Add(m, d);
    x[2] = Sub(m, d);
  } else if constexpr (R == 4) {
    const Complex a = Add(x[0], x[2]), b = Sub(x[0], x[2]), c = Add(x[1], x[3]), d = MinusI(Sub(x[1], x[3]));
    x[0] = Add(a, c);
    x[1] = Add(b, d);
    x[2] = Sub(a, c);
    x[3] = Sub(b, d);
  } else {
    static_assert(R == 5);
    constexpr double c1 = 0.30901699437494742410, c2 = -0.80901699437494742410;
    constexpr double s1 = 0.95105651629515357212, s2 = 0.58778525229247312917;
    const Complex p1 = Add(x[1], x[4]), m1 = Sub(x[1], x[4]), p2 = Add(x[2], x[3]), m2 = Sub(x[2], x[3]);
    const Complex a1 = Add(x[0], Add(Scale(p1, c1), Scale(p2, c2))), a2 = Add(x[0], Add(Scale(p1, c2), Scale(p2, c1)));
    const Complex b1 = MinusI(Add(Scale(m1, s1), Scale(m2, s2))), b2 = MinusI(Sub(Scale(m1, s2), Scale(m2, s1)));
    x[0] = Add(x[0], Add(p1, p2));
    x[1] = Add(a1, b1);
    x[4] = Sub(a1, b1);
    x[2] = Add(a2, b2);
    x[3] = Sub(a2, b2);
  }
}

// One Stockham stage of radix R: `groups` transforms of length R * rest become R * groups of length `rest`.
//   out[j + groups * (R * p + q)] = sum_r in[j + groups * (p + rest * r)] w_R^(q r)  times  w_(R rest)^(p q)
template <int R>
void Stage(const Complex* in, Complex* out, int64_t rest, int64_t groups, const double* half) {
  for (int64_t p = 0; p < rest; ++p) {
    for (int64_t j = 0; j < groups; ++j) {
      Complex x[R];
      for (int r = 0; r < R; ++r) x[r] = in[j + groups * (p + rest * r)];
      Butterfly<R>(x);
      Complex* to = out + j + groups * R * p;
      to[0] = x[0];
      for (int q = 1; q < R; ++q) {
        const double* w = half + 2 * groups * p * q;  // w_(R rest)^(p q) = w_m^(groups p q)
        to[groups * q] = Times(x[q], w[0], w[1]);
      }
    }
  }
}

}  // namespace

bool RealFft::Supports(int64_t n) {
  if (n < 4 || n > 16384 || n % 2 != 0) return false;
  n /= 2;
  for (int radix : {2, 3, 5})
    while (n % radix == 0) n /= radix;
  return n == 1;
}

RealFft::RealFft(int64_t n, std::span<double> table) : n_(n) {
  CHECK(Supports(n) && table.size() >= TableDoubles(n));
  const int64_t m = n / 2;
  for (int64_t left = m; left > 1;)
    for (int radix : {4, 2, 3, 5})
      if (left % radix == 0) {
        factors_[count_++] = radix;
        left /= radix;
        break;
      }
  double* half = table.data();
  double* full = table.data() + 2 * m;
  for (int64_t k = 0; k < m; ++k) {
    const double a = -2 * std::numbers::pi * static_cast<double>(k) / static_cast<double>(m);
    const double b = -2 * std::numbers::pi * static_cast<double>(k) / static_cast<double>(n);
    half[2 * k] = std::cos(a), half[2 * k + 1] = std::sin(a);
    full[2 * k] = std::cos(b), full[2 * k + 1] = std::sin(b);
  }
  half_ = half;
  full_ = full;
}

void RealFft::Power(double* x, double* scratch, double* power) const {
  const int64_t m = n_ / 2;
  Complex* from = reinterpret_cast<Complex*>(x);  // sample pairs are complex numbers already
  Complex* to = reinterpret_cast<Complex*>(scratch);
  int64_t groups = 1, rest = m;
  for (int i = 0; i < count_; ++i) {
    const int radix = factors_[i];
    rest /= radix;
    if (radix == 4)
      Stage<4>(from, to, rest, groups, half_);
    else if (radix == 2)
      Stage<2>(from, to, rest, groups, half_);
    else if (radix == 3)
      Stage<3>(from, to, rest, groups, half_);
    else
      Stage<5>(from, to, rest, groups, half_);
    groups *= radix;
    std::swap(from, to);
  }
  // Z = E + i O for the even and odd samples: X(k) = E(k) + w_n^k O(k), E = (Z(k) + Z*(m-k)) / 2, O = (Z(k) - Z*(m-k))
  // / 2i.
  Lane* out = reinterpret_cast<Lane*>(power);
  for (int64_t k = 0; k <= m; ++k) {
    const Complex a = from[k == m ? 0 : k], b = from[k == 0 ? 0 : m - k];
    const Complex even{(a.re + b.re) * 0.5, (a.im - b.im) * 0.5};
    const Complex odd{(a.im + b.im) * 0.5, (b.re - a.re) * 0.5};
    const double re = k == m ? -1 : full_[2 * k], im = k == m ? 0 : full_[2 * k + 1];
    const Complex v = Add(even, Times(odd, re, im));
    out[k] = v.re * v.re + v.im * v.im;
  }
}

}  // namespace sotto

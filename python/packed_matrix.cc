// _sotto.PackedMatrix: what python/sotto/compressed.py makes sotto.CompressedTensor of, which also checks arguments. Python's lock is
// given up while numbers are worked on; arrays are read and written where they lie.
#include "packed_matrix.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <unistd.h>

#include <memory>
#include <mutex>

#include "answer.h"
#include "engine/pack/matrix.h"
#include "ops/backend.h"

namespace sotto {
namespace {

namespace nb = nanobind;
using namespace nb::literals;

constexpr int64_t kMostExactSums = 131072;  // inputs of integer products, ops/backend.h

template <class T, int dims>
using Array = nb::ndarray<T, nb::ndim<dims>, nb::c_contig, nb::device::cpu>;

// Threads with a backend and its scratch.
class Workers {
 public:
  Workers(Isa isa, int count, int64_t in)
      : threads_(count),
        need_{count, in, 1},
        scratch_(static_cast<std::byte*>(std::aligned_alloc(64, RoundUp(CpuScratchBytes(need_).n, 64)))),
        isa_(isa),
        ops_(MakeCpuBackend(isa, &threads_, need_, {scratch_.get(), CpuScratchBytes(need_).n})) {}

  Threads& threads() { return threads_; }
  Backend& ops() { return *ops_; }
  bool OfThisProcess() const { return process_ == getpid(); }
  bool Serve(Isa isa, int count, int64_t in) const {
    return isa == isa_ && count == threads_.count() && in <= need_.in;
  }

 private:
  struct Free {
    void operator()(std::byte* p) const { std::free(p); }
  };
  pid_t process_ = getpid();
  Threads threads_;
  ScratchNeed need_;
  std::unique_ptr<std::byte, Free> scratch_;
  Isa isa_;
  std::unique_ptr<Backend> ops_;
};

// Calls body(workers). One set serves call after call; a call beside another, on another Python thread, makes its own, and so does a
// process that was forked, in which the threads don't exist. Not destroyed at exit, for the same reason.
template <class Body>
Status WithWorkers(int count, int64_t in, const Body& body) {
  static std::mutex mutex;
  static Workers* kept = nullptr;
  const Isa isa = TRY(DetectIsa());
  if (count == 0) count = Threads::Available();
  const std::unique_lock lock(mutex, std::try_to_lock);
  if (!lock.owns_lock()) {
    Workers own(isa, count, in);
    body(own);
    return {};
  }
  if (kept == nullptr || !kept->OfThisProcess() || !kept->Serve(isa, count, in)) {
    if (kept != nullptr && kept->OfThisProcess()) delete kept;
    kept = new Workers(isa, count, in);
  }
  body(*kept);
  return {};
}

std::string Answer(const Status& done) { return done.ok() ? "{}" : Text(done.error()); }

class PackedMatrix {
 public:
  std::string Encode(const Array<const uint8_t, 1>& bytes, int64_t rows, int64_t columns, const std::string& type,
                     const std::string& mode, double bits, const std::string& level, bool per_channel, int threads) {
    const MatrixInMemory matrix{reinterpret_cast<const std::byte*>(bytes.data()), FindGgmlType(type), rows, columns};
    CHECK(matrix.type != nullptr && bytes.size() == static_cast<uint64_t>(rows * columns) * matrix.type->bytes);
    PackRequest request;
    request.mode = mode == "int8" ? PackMode::kInt8 : mode == "lossless" ? PackMode::kHalves : PackMode::kRate;
    request.bits = bits;
    request.scale_of_tensor = !per_channel;
    request.level = level;
    const nb::gil_scoped_release others_go_on;
    Status packed;
    const Status ran =
        WithWorkers(threads, 0, [&](Workers& w) { packed = Take(PackMatrix(matrix, request, w.threads())); });
    return Answer(ran.ok() ? packed : ran);
  }

  // Reads the block where it lies, unless it must not (`copy`) or cannot be read there.
  std::string Open(const Array<const uint8_t, 1>& bytes, bool copy, int threads) {
    const std::span data(reinterpret_cast<const std::byte*>(bytes.data()), bytes.size());
    if (copy || reinterpret_cast<uintptr_t>(data.data()) % alignof(PlanesHeader) != 0) {
      own_.assign(data.begin(), data.end());
      data_ = own_;
    } else {
      lender_ = bytes;
      data_ = data;
    }
    const nb::gil_scoped_release others_go_on;
    Status checked;
    const Status ran = WithWorkers(threads, 0, [&](Workers& w) { checked = Check(w.threads()); });
    return Answer(ran.ok() ? checked : ran);
  }

  int64_t rows() const { return header().out; }
  int64_t columns() const { return header().in; }
  uint64_t bytes() const { return data_.size(); }
  double error_db() const { return error_db_; }
  double max_error() const { return max_error_; }
  double Entropy() const {
    const nb::gil_scoped_release others_go_on;
    return PlanesEntropy(data_.data());
  }
  std::string Scheme() const {
    switch (header().scheme) {
      case PlaneScheme::kInt8: return header().scales == 1 && Planes(data_.data()).Scale(0) == 1 ? "plain" : "int8";
      case PlaneScheme::kStep: return "step";
      case PlaneScheme::kF16: return "fp16";
      case PlaneScheme::kBF16: return "bf16";
    }
    return "";
  }

  // Not a copy; whoever writes there breaks it.
  nb::ndarray<nb::numpy, uint8_t, nb::ndim<1>> Payload(nb::handle self) const {
    auto* at = const_cast<std::byte*>(data_.data());
    return {reinterpret_cast<uint8_t*>(at), {data_.size()}, self};
  }

  void Decode(int64_t first, const Array<float, 2>& out, int threads) const {
    CHECK(static_cast<int64_t>(out.shape(1)) == header().in && first >= 0 &&
          first + static_cast<int64_t>(out.shape(0)) <= header().out);
    float* to = out.data();
    const auto rows = static_cast<int64_t>(out.shape(0));
    const nb::gil_scoped_release others_go_on;
    const Status ran = WithWorkers(threads, 0, [&](Workers& w) {
      w.threads().For(rows, kPlaneChannels, [&](int64_t begin, int64_t end, int) {
        UnpackPlaneRows(data_.data(), first + begin, end - begin, to + begin * header().in);
      });
    });
    CHECK(ran.ok());
  }

  std::string Multiply(const Array<const float, 2>& x, const Array<float, 2>& out, bool fast, int threads) const {
    const int64_t rows = static_cast<int64_t>(x.shape(0)), in = header().in, n = header().out;
    CHECK(static_cast<int64_t>(x.shape(1)) == in && static_cast<int64_t>(out.shape(0)) == rows &&
          static_cast<int64_t>(out.shape(1)) == n);
    const View from{reinterpret_cast<std::byte*>(const_cast<float*>(x.data())), DType::kF32, rows, in, in};
    const View to{reinterpret_cast<std::byte*>(out.data()), DType::kF32, rows, n, n};
    const WeightView weight{data_.data(), DType::kU8, 0, n, in, nullptr, true, !fast || in > kMostExactSums};
    const nb::gil_scoped_release others_go_on;
    return Answer(
        WithWorkers(threads, std::min(in, kMostExactSums), [&](Workers& w) { w.ops().Linear(from, weight, {}, to); }));
  }

 private:
  const PlanesHeader& header() const { return *reinterpret_cast<const PlanesHeader*>(data_.data()); }

  Status Take(Result<PackedBlock> packed) {
    PackedBlock block = TRY(std::move(packed));
    own_ = std::move(block.bytes);
    data_ = own_;
    error_db_ = block.error_db;
    max_error_ = block.max_error;
    return {};
  }

  Status Check(Threads& threads) const {
    if (data_.size() < sizeof(PlanesHeader))
      return Usage("these bytes are too few for a packed matrix; take all of to_bytes()");
    return CheckPlanes(data_, header().out, header().in, "CompressedTensor", PlaneIsa(), &threads);
  }

  std::vector<std::byte> own_;
  Array<const uint8_t, 1> lender_;
  std::span<const std::byte> data_;
  double error_db_ = 0, max_error_ = 0;
};

}  // namespace

void BindPackedMatrix(nb::module_& m) {
  nb::class_<PackedMatrix>(m, "PackedMatrix",
                           "What sotto.CompressedTensor is made of; encode() or open() goes first, and must succeed.")
      .def(nb::init<>())
      .def("encode", &PackedMatrix::Encode, "bytes"_a.noconvert(), "rows"_a, "columns"_a, "type"_a, "mode"_a, "bits"_a,
           "level"_a, "per_channel"_a, "threads"_a)
      .def("open", &PackedMatrix::Open, "bytes"_a.noconvert(), "copy"_a, "threads"_a)
      .def("payload", [](nb::handle_t<PackedMatrix> self) { return nb::cast<const PackedMatrix&>(self).Payload(self); })
      .def("decode", &PackedMatrix::Decode, "first"_a, "out"_a.noconvert(), "threads"_a)
      .def("multiply", &PackedMatrix::Multiply, "x"_a.noconvert(), "out"_a.noconvert(), "fast"_a, "threads"_a)
      .def("entropy", &PackedMatrix::Entropy)
      .def_prop_ro("rows", &PackedMatrix::rows)
      .def_prop_ro("columns", &PackedMatrix::columns)
      .def_prop_ro("nbytes", &PackedMatrix::bytes)
      .def_prop_ro("scheme", &PackedMatrix::Scheme)
      .def_prop_ro("error_db", &PackedMatrix::error_db)
      .def_prop_ro("max_error", &PackedMatrix::max_error);
}

}  // namespace sotto

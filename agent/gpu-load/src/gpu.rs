//! One GPU through Vulkan: finding it by its PCI address, buffers, kernels, and waiting for it with a limit.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pollster::block_on;
use wgpu::util::DeviceExt as _;

use crate::Gpu as Identity;

/// How long one piece of work may take. Each is made so small that it takes well below a second on the slowest GPU; drivers
/// themselves give a GPU up after ten.
const PATIENCE: Duration = Duration::from_secs(30);
/// How much of the memory that the driver offers is taken, percent: the driver needs some for the work itself.
const SHARE: u8 = 95;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum GpuError {
    /// The driver does not give the GPU.
    #[error("the driver does not give the GPU: {message}")]
    Refused {
        /// The driver's words.
        message: String,
    },
    /// There is no memory left.
    #[error("the GPU has too little free memory")]
    NoMemory,
    /// The GPU or its driver gave up.
    #[error("the GPU is lost: {message}")]
    Lost {
        /// The driver's words.
        message: String,
    },
    /// A piece of work did not come to its end.
    #[error("the GPU hangs: a piece of work was not done after {} s", PATIENCE.as_secs())]
    Hung,
    /// The work was refused.
    #[error("the GPU's driver refuses the work: {message}")]
    Invalid {
        /// The driver's words.
        message: String,
    },
    /// A planted fault was not found: what the checks say is worth nothing.
    #[error("the checks do not work: a planted fault in {what} was found {found} times instead of {planted}")]
    Blind {
        /// In what.
        what: &'static str,
        /// How often it was found.
        found: u64,
        /// How often it was there.
        planted: u64,
    },
}

/// An opened GPU.
pub struct Gpu {
    identity: Identity,
    device: wgpu::Device,
    queue: wgpu::Queue,
    trouble: Arc<Mutex<Option<GpuError>>>,
}

/// One kernel and the buffers it works on.
pub(crate) struct Kernel {
    pipeline: wgpu::ComputePipeline,
    bindings: wgpu::BindGroup,
}

/// One start of a kernel: how many workgroups in each dimension.
pub(crate) type Start<'k> = (&'k Kernel, [u32; 3]);

/// What Vulkan offers here. Software that draws with the CPU is among it.
pub fn adapters() -> Vec<wgpu::Adapter> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: wgpu::Backends::VULKAN,
        flags: wgpu::InstanceFlags::empty(),
        memory_budget_thresholds: wgpu::MemoryBudgetThresholds {
            for_resource_creation: Some(SHARE),
            for_device_loss: None,
        },
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    block_on(instance.enumerate_adapters(wgpu::Backends::VULKAN))
}

/// Who an adapter is.
pub fn identity(adapter: &wgpu::Adapter) -> Identity {
    let info = adapter.get_info();
    Identity {
        address: info.device_pci_bus_id,
        name: info.name,
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
    }
}

/// Whether it is hardware.
pub fn is_hardware(adapter: &wgpu::Adapter) -> bool {
    match adapter.get_info().device_type {
        wgpu::DeviceType::DiscreteGpu | wgpu::DeviceType::IntegratedGpu | wgpu::DeviceType::VirtualGpu => {
            true
        }
        wgpu::DeviceType::Cpu | wgpu::DeviceType::Other => false,
    }
}

impl Gpu {
    /// Opens a GPU.
    ///
    /// # Errors
    /// Its driver refuses.
    pub fn open(adapter: &wgpu::Adapter) -> Result<Self, GpuError> {
        let request = adapter.request_device(&wgpu::DeviceDescriptor {
            required_limits: adapter.limits(),
            // large buffers are asked for one by one: none shall share a block with another
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            ..wgpu::DeviceDescriptor::default()
        });
        let (device, queue) =
            block_on(request).map_err(|error| GpuError::Refused { message: error.to_string() })?;
        let trouble = Arc::new(Mutex::new(None));
        let note = |trouble: &Mutex<Option<GpuError>>, error| {
            trouble.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        };
        let of_errors = Arc::clone(&trouble);
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            let error = match error {
                wgpu::Error::OutOfMemory { .. } => GpuError::NoMemory,
                wgpu::Error::Internal { .. } | wgpu::Error::Validation { .. } => {
                    GpuError::Invalid { message: error.to_string() }
                }
            };
            note(&of_errors, error);
        }));
        let of_loss = Arc::clone(&trouble);
        device.set_device_lost_callback(move |_, message| {
            // a device that ran out of memory counts as lost as well, and that is no fault of the GPU
            let is_full = message == wgpu::hal::DeviceError::OutOfMemory.to_string();
            note(&of_loss, if is_full { GpuError::NoMemory } else { GpuError::Lost { message } });
        });
        Ok(Self { identity: identity(adapter), device, queue, trouble })
    }

    /// Who it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The largest buffer that one kernel can have, bytes.
    pub(crate) fn largest_buffer(&self) -> u64 {
        let limits = self.device.limits();
        limits.max_buffer_size.min(limits.max_storage_buffer_binding_size)
    }

    /// Workgroups that a kernel can have in one dimension.
    pub(crate) fn most_workgroups(&self) -> u32 {
        self.device.limits().max_compute_workgroups_per_dimension
    }

    /// A buffer in the GPU's memory, for kernels and copies.
    pub(crate) fn buffer(&self, bytes: u64) -> Result<wgpu::Buffer, GpuError> {
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
        let buffer = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: bytes,
            usage,
            mapped_at_creation: false,
        });
        match block_on(scope.pop()) {
            None => self.fine().map(|()| buffer),
            Some(_) => Err(GpuError::NoMemory),
        }
    }

    /// A buffer with content.
    pub(crate) fn filled(&self, words: &[u32]) -> Result<wgpu::Buffer, GpuError> {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
        let content = wgpu::util::BufferInitDescriptor { label: None, contents: &bytes, usage };
        let buffer = self.device.create_buffer_init(&content);
        self.fine().map(|()| buffer)
    }

    /// A small buffer that tells a kernel what to do; see [`Gpu::tell`].
    pub(crate) fn orders(&self, words: u64) -> wgpu::Buffer {
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            // uniform buffers have a size of whole groups of four words
            size: words.next_multiple_of(4) * 4,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        })
    }

    /// A buffer in the host's memory that the GPU copies into.
    pub(crate) fn landing(&self, bytes: u64) -> wgpu::Buffer {
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: bytes,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        })
    }

    /// Writes words into a buffer, from this word on, before the next work.
    pub(crate) fn tell(&self, buffer: &wgpu::Buffer, word: u64, words: &[u32]) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.queue.write_buffer(buffer, word * 4, &bytes);
    }

    /// Sends bytes into a buffer over the link; [`Gpu::wait`] waits for them.
    pub(crate) fn send(&self, buffer: &wgpu::Buffer, bytes: &[u8]) {
        self.queue.write_buffer(buffer, 0, bytes);
        self.queue.submit([]);
    }

    /// The kernel of this name of a shader, with its constants and the buffers by their bindings.
    pub(crate) fn kernel(
        &self,
        shader: &str,
        name: &str,
        constants: &[(&str, f64)],
        buffers: &[(u32, &wgpu::Buffer)],
    ) -> Result<Kernel, GpuError> {
        let source = wgpu::ShaderSource::Wgsl(shader.into());
        let module = self.device.create_shader_module(wgpu::ShaderModuleDescriptor { label: None, source });
        let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(name),
            layout: None,
            module: &module,
            entry_point: Some(name),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants,
                ..wgpu::PipelineCompilationOptions::default()
            },
            cache: None,
        });
        self.fine()?;
        let bindings = self.bound(&pipeline, buffers);
        self.fine().map(|()| Kernel { pipeline, bindings })
    }

    /// The same kernel on other buffers.
    pub(crate) fn on(&self, kernel: &Kernel, buffers: &[(u32, &wgpu::Buffer)]) -> Result<Kernel, GpuError> {
        let bindings = self.bound(&kernel.pipeline, buffers);
        self.fine().map(|()| Kernel { pipeline: kernel.pipeline.clone(), bindings })
    }

    fn bound(&self, pipeline: &wgpu::ComputePipeline, buffers: &[(u32, &wgpu::Buffer)]) -> wgpu::BindGroup {
        let entries: Vec<_> = buffers
            .iter()
            .map(|&(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
            .collect();
        let layout = pipeline.get_bind_group_layout(0);
        self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &layout,
            entries: &entries,
        })
    }

    /// Starts kernels one after the other; [`Gpu::wait`] waits for them.
    pub(crate) fn start(&self, starts: &[Start<'_>]) {
        let mut commands = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        for (kernel, [x, y, z]) in starts {
            let mut pass = commands.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            pass.set_pipeline(&kernel.pipeline);
            pass.set_bind_group(0, &kernel.bindings, &[]);
            pass.dispatch_workgroups(*x, *y, *z);
        }
        self.queue.submit([commands.finish()]);
    }

    /// Starts a copy of a whole buffer; [`Gpu::wait`] waits for it.
    pub(crate) fn copy(&self, from: &wgpu::Buffer, to: &wgpu::Buffer) {
        let mut commands = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        commands.copy_buffer_to_buffer(from, 0, to, 0, to.size());
        self.queue.submit([commands.finish()]);
    }

    /// Waits until everything is done.
    pub(crate) fn wait(&self) -> Result<(), GpuError> {
        let until_done = wgpu::PollType::Wait { submission_index: None, timeout: Some(PATIENCE) };
        match self.device.poll(until_done) {
            Ok(_) => self.fine(),
            Err(wgpu::PollError::Timeout) => Err(GpuError::Hung),
            Err(error) => self.fine().and(Err(GpuError::Invalid { message: error.to_string() })),
        }
    }

    /// The words of a landing buffer, once everything is done.
    pub(crate) fn landed(&self, buffer: &wgpu::Buffer) -> Result<Vec<u32>, GpuError> {
        let (tell, told) = channel();
        buffer.map_async(wgpu::MapMode::Read, .., move |answer| {
            // nobody waits any more if that fails
            let _ = tell.send(answer);
        });
        self.wait()?;
        let mapped = told.try_recv().is_ok_and(|answer| answer.is_ok());
        let view = mapped.then(|| buffer.get_mapped_range(..)).and_then(Result::ok);
        let Some(view) = view else {
            return Err(GpuError::Invalid { message: "a result cannot be read".to_owned() });
        };
        let (words, _) = view.as_chunks::<4>();
        let words = words.iter().map(|word| u32::from_le_bytes(*word)).collect();
        drop(view);
        buffer.unmap();
        Ok(words)
    }

    /// Whether nothing was refused or lost so far; a trouble is told once.
    pub fn fine(&self) -> Result<(), GpuError> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
    }
}

/* A stand-in for libnvidia-ml.so.1 that the real binding loads.

   State comes from the file named by FAKE_NVML_STATE, key=value lines, read again on every call, so
   that a test changes a GPU while the program under test runs:

     count=2                                   how many GPUs there are
     g0.power_mw=350000                        a figure of GPU 0
     g0.error.nvmlDeviceGetPowerUsage=15       that function fails with that code for GPU 0
     g0.hang.nvmlDeviceGetPowerUsage=1         that function does not come back while this line stands
     error.nvmlInit=9                          so does opening the library
     g0.xid_seq=1  g0.xid=79                   raise the first to send one more Xid event
     g0.gpm=1  g0.gpm_2=85.5                   GPM is supported; metric 2 says 85.5
     g0.mig=1  g0.slices=2                     two MIG devices
*/
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>
typedef int R; typedef void* H;
enum { OK=0, UNINIT=1, INVAL=2, NOTSUP=3, NOTFOUND=6, INSUF=7, TIMEOUT=10 };
static int refs=0;
static int look(const char*key, char*out, size_t n){
  const char*p=getenv("FAKE_NVML_STATE"); if(!p) return 0; FILE*f=fopen(p,"r"); if(!f) return 0;
  char l[512]; size_t k=strlen(key); int hit=0;
  while(fgets(l,sizeof l,f)) if(!strncmp(l,key,k)&&l[k]=='='){ l[strcspn(l,"\r\n")]=0; snprintf(out,n,"%s",l+k+1); hit=1; }
  fclose(f); return hit; }
static double num(H d,const char*k,double dflt){ char key[128],v[256]; snprintf(key,sizeof key,"g%ld.%s",(long)(intptr_t)d-1,k); return look(key,v,sizeof v)?strtod(v,0):dflt; }
static int str(H d,const char*k,char*o,size_t n,const char*dflt){ char key[128],v[256]; snprintf(key,sizeof key,"g%ld.%s",(long)(intptr_t)d-1,k); if(look(key,v,sizeof v)) snprintf(o,n,"%s",v); else snprintf(o,n,"%s",dflt); return 0; }
static R err(H d,const char*fn){ char k[128]; if(!refs) return UNINIT; snprintf(k,sizeof k,"hang.%s",fn); while(num(d,k,0)) usleep(5000); snprintf(k,sizeof k,"error.%s",fn); return (R)num(d,k,OK); }
#define CHK(d) do{ R e=err(d,__func__); if(e) return e; }while(0)
static int count(void){ char v[64]; return look("count",v,sizeof v)?atoi(v):1; }
static uint64_t now_us(void){ struct timespec t; clock_gettime(CLOCK_REALTIME,&t); return (uint64_t)t.tv_sec*1000000ull+t.tv_nsec/1000; }
R nvmlInitWithFlags(unsigned f){ char v[64]; (void)f; if(look("error.nvmlInit",v,sizeof v)) return atoi(v); refs++; return OK; }
R nvmlInit_v2(void){ return nvmlInitWithFlags(0); }
R nvmlShutdown(void){ if(!refs) return UNINIT; refs--; return OK; }
const char* nvmlErrorString(R r){ switch(r){case 0:return "Success";case 1:return "Uninitialized";case 3:return "Not Supported";case 9:return "Driver Not Loaded";case 15:return "GPU is lost";default:return "Unknown Error";} }
R nvmlSystemGetDriverVersion(char*s,unsigned n){ char v[256]; snprintf(s,n,"%s",look("driver",v,sizeof v)?v:"580.159.04"); return OK; }
R nvmlSystemGetNVMLVersion(char*s,unsigned n){ snprintf(s,n,"13.580.159.04"); return OK; }
R nvmlSystemGetCudaDriverVersion_v2(int*v){ *v=13000; return OK; }
R nvmlDeviceGetCount_v2(unsigned*n){ if(!refs) return UNINIT; *n=count(); return OK; }
R nvmlDeviceGetHandleByIndex_v2(unsigned i,H*d){ if(!refs) return UNINIT; if((int)i>=count()) return INVAL; *d=(H)(intptr_t)(i+1); CHK(*d); return OK; }
R nvmlDeviceGetIndex(H d,unsigned*i){ *i=(unsigned)((intptr_t)d-1); return OK; }
R nvmlDeviceGetName(H d,char*s,unsigned n){ CHK(d); return str(d,"name",s,n,"NVIDIA H200"); }
R nvmlDeviceGetUUID(H d,char*s,unsigned n){ char f[96]; CHK(d); snprintf(f,sizeof f,"GPU-00000000-0000-0000-0000-%012ld",(long)(intptr_t)d-1); return str(d,"uuid",s,n,f); }
R nvmlDeviceGetCudaComputeCapability(H d,int*a,int*b){ CHK(d); *a=num(d,"cc_major",9); *b=num(d,"cc_minor",0); return OK; }
R nvmlDeviceGetHandleByUUID(const char*u,H*d){ for(int i=0;i<count();i++){ char s[96]; nvmlDeviceGetUUID((H)(intptr_t)(i+1),s,sizeof s); if(!strcmp(s,u)){ *d=(H)(intptr_t)(i+1); return OK; } } return NOTFOUND; }
R nvmlDeviceGetUtilizationRates(H d,unsigned*u){ CHK(d); u[0]=num(d,"util",0); u[1]=num(d,"mem_util",0); return OK; }
R nvmlDeviceGetMemoryInfo(H d,uint64_t*m){ CHK(d); m[0]=num(d,"mem_total",150754820096.0); m[2]=num(d,"mem_used",0); m[1]=m[0]-m[2]; return OK; }
struct mem2{unsigned v; uint64_t total,reserved,free,used;};
R nvmlDeviceGetMemoryInfo_v2(H d,struct mem2*m){ CHK(d); m->total=num(d,"mem_total",150754820096.0); m->used=num(d,"mem_used",0); m->reserved=num(d,"mem_reserved",0); m->free=m->total-m->used-m->reserved; return OK; }
R nvmlDeviceGetPowerUsage(H d,unsigned*p){ CHK(d); *p=num(d,"power_mw",75000); return OK; }
R nvmlDeviceGetEnforcedPowerLimit(H d,unsigned*p){ CHK(d); *p=num(d,"power_limit_mw",700000); return OK; }
R nvmlDeviceGetTotalEnergyConsumption(H d,unsigned long long*e){ CHK(d); *e=(unsigned long long)num(d,"energy_mj",0); return OK; }
R nvmlDeviceGetTemperature(H d,int s,unsigned*t){ (void)s; CHK(d); *t=num(d,"temp",40); return OK; }
struct tv{unsigned v,sensor,t;}; R nvmlDeviceGetTemperatureV(H d,struct tv*t){ CHK(d); t->t=num(d,"temp",40); return OK; }
R nvmlDeviceGetClockInfo(H d,int c,unsigned*m){ CHK(d); *m=num(d,c==2?"clock_mem":"clock_sm",c==2?3201:1980); return OK; }
R nvmlDeviceGetMaxClockInfo(H d,int c,unsigned*m){ CHK(d); *m=c==2?3201:1980; return OK; }
R nvmlDeviceGetCurrentClocksEventReasons(H d,unsigned long long*r){ CHK(d); *r=num(d,"throttle",0); return OK; }
R nvmlDeviceGetCurrentClocksThrottleReasons(H d,unsigned long long*r){ return nvmlDeviceGetCurrentClocksEventReasons(d,r); }
R nvmlDeviceGetTotalEccErrors(H d,int t,int c,unsigned long long*n){ (void)c; CHK(d); *n=num(d,t==1?"ecc_uncorrected":"ecc_corrected",0); return OK; }
R nvmlDeviceGetMigMode(H d,unsigned*c,unsigned*p){ CHK(d); *c=*p=num(d,"mig",0); return OK; }
struct viol{unsigned long long ref,viol;}; R nvmlDeviceGetViolationStatus(H d,int k,struct viol*v){ char key[32]; CHK(d); snprintf(key,sizeof key,"violation%d_ns",k); v->ref=now_us(); v->viol=num(d,key,0); return OK; }
struct proc{unsigned pid; uint64_t mem; unsigned gi,ci;};
R nvmlDeviceGetComputeRunningProcesses_v3(H d,unsigned*n,struct proc*p){ char v[256]; struct proc q[8]; unsigned k=0; CHK(d);
  str(d,"procs",v,sizeof v,""); for(char*s=strtok(v,",");s&&k<8;s=strtok(0,",")){ char*c=strchr(s,':'); q[k].pid=strtoul(s,0,10); q[k].mem=c?strtoull(c+1,0,10):0; q[k].gi=q[k].ci=0xFFFFFFFFu; k++; }
  if(*n<k||!p){ int small=*n<k; *n=k; return k&&small?INSUF:OK; } memcpy(p,q,k*sizeof*q); *n=k; return OK; }
struct fv{unsigned id,scope; int64_t ts,lat; unsigned type; R ret; union{double d; unsigned ui; unsigned long long ull;} v;};
R nvmlDeviceGetFieldValues(H d,int n,struct fv*f){ CHK(d); for(int i=0;i<n;i++){ f[i].ts=now_us(); f[i].lat=0; f[i].ret=OK; switch(f[i].id){
  case 83: f[i].type=3; f[i].v.ull=(unsigned long long)num(d,"energy_mj",0); break;
  case 185: case 186: f[i].type=1; f[i].v.ui=num(d,"power_mw",75000); break; default: f[i].ret=NOTSUP; } } return OK; }
struct ev{H d; unsigned long long type,data; unsigned gi,ci;};
R nvmlEventSetCreate(void**s){ *s=malloc(8); return OK; } R nvmlEventSetFree(void*s){ free(s); return OK; }
R nvmlDeviceRegisterEvents(H d,unsigned long long t,void*s){ (void)t;(void)s; CHK(d); return OK; }
R nvmlEventSetWait_v2(void*s,struct ev*e,unsigned ms){ static double last[64]; (void)s; for(unsigned t=0;;t+=20){ for(int i=0;i<count()&&i<64;i++){ H d=(H)(intptr_t)(i+1); double seq=num(d,"xid_seq",0); if(seq>last[i]){ last[i]=seq; e->d=d; e->type=8; e->data=num(d,"xid",79); e->gi=e->ci=0xFFFFFFFFu; return OK; } } if(t+20>ms) return TIMEOUT; usleep(20000);} }

/* MIG devices: handle 1001 + 16 * gpu + slice; keys g<1000 + 16 * gpu + slice>.NAME. */
R nvmlDeviceGetMaxMigDeviceCount(H d,unsigned*n){ CHK(d); *n=7; return OK; }
R nvmlDeviceGetMigDeviceHandleByIndex(H d,unsigned i,H*m){ CHK(d); if((int)i>=(int)num(d,"slices",0)) return NOTFOUND;
  *m=(H)(intptr_t)(1001+16*((long)(intptr_t)d-1)+i); return OK; }
struct attr{unsigned sm,copy,dec,enc,jpeg,ofa,gi,ci; unsigned long long mb;};
R nvmlDeviceGetAttributes_v2(H d,struct attr*a){ CHK(d); memset(a,0,sizeof*a); a->gi=num(d,"slice_gi",3); a->ci=a->gi; a->mb=num(d,"mem_total",0)/1048576; return OK; }

/* GPM */
struct gpms{unsigned v,ok;}; struct gpmm{unsigned id; R ret; double value; const char*names[3];};
struct gpmget{unsigned v,n; void*a; void*b; struct gpmm m[333];};
R nvmlGpmQueryDeviceSupport(H d,struct gpms*s){ CHK(d); s->ok=num(d,"gpm",0); return OK; }
R nvmlGpmSampleAlloc(void**s){ *s=calloc(1,sizeof(H)); return OK; }
R nvmlGpmSampleFree(void*s){ free(s); return OK; }
R nvmlGpmSampleGet(H d,void*s){ CHK(d); *(H*)s=d; return OK; }
R nvmlGpmMetricsGet(struct gpmget*g){ H d=*(H*)g->a; if(!d||d!=*(H*)g->b) return INVAL; CHK(d);
  for(unsigned i=0;i<g->n;i++){ char k[32]; snprintf(k,sizeof k,"gpm_%u",g->m[i].id); double v=num(d,k,-1); g->m[i].ret=v<0?NOTSUP:OK; g->m[i].value=v<0?0:v; } return OK; }
